"""Folders that appear whole or not at all, and the checkpoints among them.

A checkpoint is a pipeline folder (averaged weights) with a `training_state/` beside the networks. It is
written under a temporary name, flushed to disk and renamed; its manifest holds size and checksum of every
file, so that a damaged checkpoint is known before it is used.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

from videocrafter.training.saving.state import STATE_FOLDER

_log = logging.getLogger(__name__)

_TEMPORARY = ".tmp-"
_MANIFEST = f"{STATE_FOLDER}/manifest.json"
_CHUNK_BYTES = 1 << 22
# What libraries that wrap the system's error in their own say about it.
_DISK_TROUBLE = ("no space left", "file too large", "disk quota", "input/output error", "failed writing file")


class CheckpointError(OSError):
    """A checkpoint could not be written."""


class Checkpoints:
    """The checkpoints of one stage.

    Args:
        folder: holds the checkpoints of all stages.
        stage: the stage's name.
        keep: newest ones that are kept.
        every: those of steps that are multiples of this are kept, too; 0 is none.
    """

    def __init__(self, folder: Path, stage: str, keep: int, every: int = 0) -> None:
        self._folder = folder
        self._stage = stage
        self._keep = keep
        self._every = every

    def path(self, step: int) -> Path:
        """Folder of the checkpoint of a step."""
        return self._folder / f"{self._stage}-step-{step:08d}"

    def save(self, step: int, write: Callable[[Path], None]) -> Path:
        """Write a checkpoint and delete the oldest beyond `keep`.

        Args:
            write: fills the folder that it is given.

        Raises:
            CheckpointError: it could not be written; the older ones are untouched.
        """

        def write_with_manifest(folder: Path) -> None:
            write(folder)
            (folder / _MANIFEST).write_text(json.dumps(_checksums(folder), indent=1))

        path = self.path(step)
        try:
            write_folder(path, write_with_manifest)
        except OSError as error:
            last = self.latest()
            kept = f"the last good one is {last}" if last else "there is no earlier one"
            raise CheckpointError(
                f"could not save the checkpoint {path} ({error.strerror or error}); {kept}. Free some space or make "
                "the folder writable, then give the same command again"
            ) from error
        best = self.best()
        # Later ones are damaged, or the run would have gone on from them; they must not crowd out good ones.
        until_now = [found for found in self._newest_first() if found[0] <= step]
        for old_step, old in until_now[self._keep :]:
            is_kept = (self._every and old_step % self._every == 0) or (best is not None and best[0] == old_step)
            if not is_kept:
                shutil.rmtree(old)
        return path

    def best(self) -> tuple[int, float] | None:
        """Step and value of the checkpoint that `mark_best` named last."""
        try:
            record = json.loads(self._best_file.read_text(encoding="utf-8"))
            return int(record["step"]), float(record["value"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def mark_best(self, step: int, metric: str, value: float) -> None:
        """Name the best checkpoint, which is kept until another one is named."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_text(self._best_file, json.dumps({"step": step, "metric": metric, "value": value}))

    @property
    def _best_file(self) -> Path:
        return self._folder / f"{self._stage}-best.json"

    def latest(self) -> Path | None:
        """The newest checkpoint that is whole; damaged ones are named in the log and skipped."""
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
    """What is wrong with a checkpoint folder; None if every file is as it was written."""
    try:
        manifest = json.loads((checkpoint / _MANIFEST).read_text())
        for name, (size, checksum) in manifest.items():
            path = checkpoint / name
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes, expected {size}"
            if _checksum(path) != checksum:
                return f"the content of {name} has changed"
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return str(error)
    return None


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Make a folder that appears whole or not at all; one that was there is replaced.

    Args:
        write: fills the empty folder that it is given.

    Raises:
        OSError: it could not be written (a full disk, say); nothing is left of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{_TEMPORARY}{path.name}"
    replaced = path.parent / f"{_TEMPORARY}replaced-{path.name}"
    for leftover in (temporary, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        temporary.mkdir()
        write(temporary)
        _flush_tree(temporary)
        if path.exists():
            path.rename(replaced)
        temporary.rename(path)
        _flush_folder(path.parent)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        trouble = _disk_trouble(error)
        if trouble is not None:
            raise OSError(trouble.errno or errno.EIO, trouble.strerror or str(trouble), str(path)) from error
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _disk_trouble(error: BaseException | None) -> OSError | None:
    """The system's error behind what a library raised; torch, for one, stumbles again while it closes the file."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        if any(sign in str(error).lower() for sign in _DISK_TROUBLE):
            return OSError(errno.ENOSPC if "no space left" in str(error).lower() else errno.EIO, str(error))
        error = error.__cause__ or error.__context__
    return None


def write_text(path: Path, text: str) -> None:
    """Write a small file that is there whole or as it was before."""
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is half-written."""
    return name.startswith(_TEMPORARY)


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed run left half-written in `folder`."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if not is_temporary(path.name):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _checksums(folder: Path) -> dict[str, tuple[int, int]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, _checksum(path)) for path in files}


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _flush_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        else:
            _flush_folder(path)
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
