"""Files of a cache: safetensors files of many entries, which appear whole and are never changed.

An entry NAME is a few tensors `NAME/PART` and a record `NAME/record`: JSON, behind its own checksum, with the
checksums of the parts. Reading maps the file into memory and touches what is wanted only.
"""

from __future__ import annotations

import json
import os
import secrets
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from videocrafter.training.video.clip_cache.config import CacheError

SUFFIX = ".safetensors"
_PART_SUFFIX = ".part"
_RECORD, _CHECKSUMS, _CACHE = "record", "checksums", "cache"
_SECONDS_TO_WRITE = 3600.0


class DamagedShardError(Exception):
    """A file, or an entry in it, is not as it was written; one line that names it."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is kept under a name.

    Attributes:
        record: JSON values.
        tensors: on the CPU, by the name of the part; there may be none.
    """

    record: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def num_bytes(self) -> int:
        """About what it takes."""
        return sum(tensor.nbytes for tensor in self.tensors.values()) + len(json.dumps(dict(self.record)))


def write_shard(path: Path, entries: Mapping[str, Entry], digest: str) -> None:
    """Write a file of entries.

    Args:
        digest: of the description of the cache that it belongs to.

    Raises:
        CacheError: it cannot be written; nothing is left of it.
    """
    tensors: dict[str, Tensor] = {}
    for name, entry in entries.items():
        parts = {part: tensor.contiguous() for part, tensor in entry.tensors.items()}
        checksums = {part: _checksum(tensor) for part, tensor in parts.items()}
        tensors |= {f"{name}/{part}": tensor for part, tensor in parts.items()}
        tensors[f"{name}/{_RECORD}"] = _packed({**entry.record, _CHECKSUMS: checksums})
    hidden = path.with_name(f".{secrets.token_hex(8)}{_PART_SUFFIX}")
    try:
        save_file(tensors, hidden, metadata={_CACHE: digest})
        with hidden.open("rb+") as file:
            os.fsync(file.fileno())
        # Whoever may look into the folder may read what is in it; safetensors lets only the writer.
        hidden.chmod(path.parent.stat().st_mode & 0o666)
        hidden.replace(path)
    except (OSError, SafetensorError) as error:
        hidden.unlink(missing_ok=True)
        raise CacheError(f"the cache cannot be written to {path.parent} ({error}); free some space there") from error


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left half-written. What is written at this moment stays."""
    for path in folder.glob(f".*{_PART_SUFFIX}"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _SECONDS_TO_WRITE:
                path.unlink()


class Shard:
    """An open file of entries.

    Args:
        digest: of the cache that it must belong to.

    Raises:
        DamagedShardError: it is cut off, or no such file.
        CacheError: it belongs to another cache.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self.path = path
        try:
            self._file: Any = safe_open(path, framework="pt")
            belongs_to = (self._file.metadata() or {}).get(_CACHE)
        except (OSError, SafetensorError) as error:
            raise DamagedShardError(f"{path} is damaged ({error})") from error
        if belongs_to != digest:
            raise CacheError(f"{path} belongs to another cache than the files beside it; take it out of this folder")

    def names(self) -> Iterator[str]:
        """Of the entries."""
        ending = f"/{_RECORD}"
        return (key.removesuffix(ending) for key in self._file.keys() if key.endswith(ending))  # noqa: SIM118

    def read(self, name: str) -> Entry | None:
        """An entry; None if it is not here.

        Raises:
            DamagedShardError: it is not as it was written.
        """
        try:
            record = _unpacked(self._file.get_tensor(f"{name}/{_RECORD}"))
        except SafetensorError:
            return None
        try:
            if record is None:
                raise ValueError("its record has changed")
            checksums: dict[str, int] = record.pop(_CHECKSUMS)
            tensors = {part: self._file.get_tensor(f"{name}/{part}") for part in checksums}
            changed = [part for part, tensor in tensors.items() if _checksum(tensor) != checksums[part]]
            if changed:
                raise ValueError(f"its {changed[0]} has changed")
        except (ValueError, SafetensorError, OSError) as error:
            raise DamagedShardError(f"entry {name} in {self.path} is damaged ({error})") from error
        return Entry(record=record, tensors=tensors)


def _packed(record: Mapping[str, Any]) -> Tensor:
    text = json.dumps(record, separators=(",", ":")).encode()
    return torch.frombuffer(bytearray(zlib.crc32(text).to_bytes(4, "little") + text), dtype=torch.uint8)


def _unpacked(tensor: Tensor) -> dict[str, Any] | None:
    """A record; None if it is not as it was written."""
    data = tensor.numpy().tobytes()
    if zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
        return None
    record: dict[str, Any] = json.loads(data[4:])
    return record


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data)
