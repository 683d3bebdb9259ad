"""The files of a cache: safetensors files of many entries, which are written once and never changed.

An entry NAME consists of tensors `NAME/PART` and a record `NAME/record`: JSON, preceded by its own checksum, with the
checksums of the parts. Files are memory-mapped, so reading an entry touches only its own bytes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from videocrafter.media.atomic_write import whole_file
from videocrafter.training.video.clip_cache.config import CacheError

SUFFIX = ".safetensors"
_RECORD, _CHECKSUMS, _CACHE = "record", "checksums", "cache"


class DamagedFileError(Exception):
    """A cache file or an entry in it is damaged; the message is one line that names it."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The value cached under a name.

    Attributes:
        record: JSON values.
        tensors: tensors on the CPU by the name of the part; may be empty.
    """

    record: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def num_bytes(self) -> int:
        """Approximate size."""
        return sum(tensor.nbytes for tensor in self.tensors.values()) + len(json.dumps(dict(self.record)))


def write_cache_file(path: Path, entries: Mapping[str, Entry], digest: str) -> None:
    """Write entries to a new file.

    Args:
        digest: identifies the description of the cache that the file belongs to.

    Raises:
        CacheError: the file cannot be written; nothing of it remains.
    """
    tensors: dict[str, Tensor] = {}
    for name, entry in entries.items():
        parts = {part: tensor.contiguous() for part, tensor in entry.tensors.items()}
        checksums = {part: _checksum(tensor) for part, tensor in parts.items()}
        tensors |= {f"{name}/{part}": tensor for part, tensor in parts.items()}
        tensors[f"{name}/{_RECORD}"] = _packed({**entry.record, _CHECKSUMS: checksums})
    try:
        with whole_file(path, overwrite=False) as temporary:
            save_file(tensors, temporary, metadata={_CACHE: digest})
    except (OSError, SafetensorError) as error:
        raise CacheError(f"the cache cannot be written to {path.parent} ({error})") from error


class CacheFile:
    """An open file of entries.

    Args:
        digest: identifies the cache that the file must belong to.

    Raises:
        DamagedFileError: the file is truncated or not a cache file.
        CacheError: it belongs to another cache.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self.path = path
        try:
            self._file: Any = safe_open(path, framework="pt")
            belongs_to = (self._file.metadata() or {}).get(_CACHE)
        except (OSError, SafetensorError) as error:
            raise DamagedFileError(f"{path} is damaged ({error})") from error
        if belongs_to != digest:
            raise CacheError(f"{path} belongs to another cache than this folder; move it out of the folder")

    def names(self) -> Iterator[str]:
        """Iterate over the names of the entries."""
        ending = f"/{_RECORD}"
        return (key.removesuffix(ending) for key in self._file.keys() if key.endswith(ending))  # noqa: SIM118

    def read(self, name: str) -> Entry | None:
        """Return an entry; None if the file does not contain it.

        Raises:
            DamagedFileError: the entry does not match its checksums.
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
            raise DamagedFileError(f"entry {name} in {self.path} is damaged ({error})") from error
        return Entry(record=record, tensors=tensors)


def _packed(record: Mapping[str, Any]) -> Tensor:
    text = json.dumps(record, separators=(",", ":")).encode()
    return torch.frombuffer(bytearray(zlib.crc32(text).to_bytes(4, "little") + text), dtype=torch.uint8)


def _unpacked(tensor: Tensor) -> dict[str, Any] | None:
    """Decode a record; return None if it does not match its checksum."""
    data = tensor.numpy().tobytes()
    if zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
        return None
    record: dict[str, Any] = json.loads(data[4:])
    return record


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data)
