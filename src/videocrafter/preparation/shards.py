"""Tar shards: which clips are in which, as a function of the clips alone, and their bytes."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videocrafter.media.atomic_write import whole_file
from videocrafter.media.output_checks import check_space
from videocrafter.preparation.config import ShardConfig, fingerprint
from videocrafter.preparation.work_files import WorkFiles, canonical


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """Contents of a shard.

    Attributes:
        name: path below the output folder, such as `shards/000000.tar`.
        clips: id, caption and description of each clip, in the order of the file.
    """

    name: str
    clips: tuple[tuple[str, str, Mapping[str, Any]], ...]

    @property
    def id(self) -> str:
        """Name of its result: the same only for the same contents."""
        return fingerprint(self.name, [list(clip) for clip in self.clips])


def plan_shards(folder: str, rows: Sequence[Mapping[str, Any]], config: ShardConfig, seed: int) -> list[ShardPlan]:
    """Distribute clips over shards, in an order that depends on the ids and the seed.

    Args:
        folder: `shards` or `validation`.
        rows: with `id`, `caption_short`, `bytes` and the description of each clip.
    """
    ordered = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row['id']}".encode()).digest())
    shards: list[list[Mapping[str, Any]]] = []
    size = 0
    for row in ordered:
        if not shards or len(shards[-1]) >= config.max_clips or size + row["bytes"] > config.max_bytes:
            shards.append([])
            size = 0
        shards[-1].append(row)
        size += row["bytes"]
    return [
        ShardPlan(
            name=f"{folder}/{number:06d}.tar",
            clips=tuple((row["id"], row["caption_short"], row) for row in sorted(shard, key=lambda row: row["id"])),
        )
        for number, shard in enumerate(shards)
    ]


def write_shard(plan: ShardPlan, out: Path, clip_files: WorkFiles) -> dict[str, Any]:
    """Write a shard and return its name, size, hash and number of clips, as JSON data.

    Raises:
        OutputError: the disk is full, or cannot be written.
    """
    path = out / plan.name
    path.parent.mkdir(parents=True, exist_ok=True)
    check_space(path, sum(description["bytes"] for _, _, description in plan.clips))
    with whole_file(path, overwrite=True) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, caption, description in plan.clips:
                _add(tar, f"{name}.json", canonical(dict(description)))
                _add(tar, f"{name}.mp4", clip_files.path(name, ".mp4").read_bytes())
                _add(tar, f"{name}.txt", caption.encode("utf-8", "backslashreplace"))
        digest = hashlib.sha256()
        with temporary.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
        size = temporary.stat().st_size
    return {"name": plan.name, "bytes": size, "sha256": digest.hexdigest(), "clips": len(plan.clips)}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    # A new TarInfo belongs to user 0 and has time 0, so that only names and contents count.
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
