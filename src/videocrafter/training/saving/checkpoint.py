"""The checkpoints of a stage.

A checkpoint is a pipeline folder (EMA weights) that also holds `training_state/`. A manifest lists size and checksum
of every file, so that a damaged checkpoint is detected before it is used.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

from videocrafter.media.atomic_write import whole_folder, write_text
from videocrafter.media.json_file import read_json_object
from videocrafter.training.saving.state import STATE_FOLDER

_log = logging.getLogger(__name__)

_MANIFEST = f"{STATE_FOLDER}/manifest.json"
_CHUNK_BYTES = 1 << 22


class CheckpointError(OSError):
    """A checkpoint could not be written."""


class Checkpoints:
    """The checkpoints of one stage.

    Args:
        folder: holds the checkpoints of all stages.
        stage: the stage's name.
        keep: number of newest checkpoints to keep.
        every: also keep the checkpoints of steps that are multiples of this; 0 keeps none of them.
    """

    def __init__(self, folder: Path, stage: str, keep: int, every: int = 0) -> None:
        self._folder = folder
        self._stage = stage
        self._keep = keep
        self._every = every

    def path(self, step: int) -> Path:
        """Return the folder of a step's checkpoint."""
        return self._folder / f"{self._stage}-step-{step:08d}"

    def save(self, step: int, write: Callable[[Path], None]) -> Path:
        """Write a checkpoint and delete the oldest ones beyond `keep`.

        Args:
            write: fills the empty folder that it is given.

        Raises:
            CheckpointError: the checkpoint could not be written; older ones are unchanged.
        """
        path = self.path(step)
        try:
            with whole_folder(path, overwrite=True) as folder:
                write(folder)
                (folder / _MANIFEST).write_text(json.dumps(_checksums(folder), indent=1))
        except OSError as error:
            last = self.latest()
            kept = f"the last good checkpoint is {last}" if last else "there is no earlier checkpoint"
            raise CheckpointError(
                f"could not save the checkpoint: {error}; {kept}. Then run the same command again to resume"
            ) from error
        best = self.best()
        # Checkpoints of later steps are damaged, or the run would have resumed from them. They must not displace good
        # ones.
        until_now = [found for found in self._newest_first() if found[0] <= step]
        for old_step, old in until_now[self._keep :]:
            is_kept = (self._every and old_step % self._every == 0) or (best is not None and best[0] == old_step)
            if not is_kept:
                shutil.rmtree(old)
        return path

    def best(self) -> tuple[int, float] | None:
        """Return step and value of the checkpoint that `mark_best` named last."""
        try:
            record = read_json_object(self._best_file)
            return int(record["step"]), float(record["value"])
        except (ValueError, KeyError, TypeError, OverflowError):
            return None

    def mark_best(self, step: int, metric: str, value: float) -> None:
        """Mark the best checkpoint; it is kept until another one is marked."""
        write_text(self._best_file, json.dumps({"step": step, "metric": metric, "value": value}))

    @property
    def _best_file(self) -> Path:
        return self._folder / f"{self._stage}-best.json"

    def latest(self) -> Path | None:
        """Return the newest intact checkpoint; damaged ones are logged and skipped."""
        for _, path in self._newest_first():
            damage = find_damage(path)
            if damage is None:
                return path
            _log.warning("Skipping the damaged checkpoint %s: %s", path, damage)
        return None

    def _newest_first(self) -> list[tuple[int, Path]]:
        pattern = re.compile(re.escape(self._stage) + r"-step-(\d{8,})")
        found = [
            (int(match[1]), path)
            for path in (self._folder.iterdir() if self._folder.is_dir() else ())
            if (match := pattern.fullmatch(path.name))
        ]
        return sorted(found, reverse=True)


def find_damage(checkpoint: Path) -> str | None:
    """Describe the damage to a checkpoint folder; None if every file matches the manifest."""
    try:
        manifest = read_json_object(checkpoint / _MANIFEST)
        for name, (size, checksum) in manifest.items():
            path = checkpoint / name
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes, expected {size}"
            if _checksum(path) != checksum:
                return f"the content of {name} has changed"
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return str(error)
    return None


def _checksums(folder: Path) -> dict[str, tuple[int, int]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, _checksum(path)) for path in files}


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
