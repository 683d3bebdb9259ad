"""A large file or folder that appears whole or not at all, on a disk that was asked for room first.

Written under a hidden name beside its target and renamed when complete: an error, a full disk or Ctrl-C leaves
no half model under the final name, and what was there before stays until the rename. (Videos have their own
way, `media/atomic_write.py`, which holds the whole content in memory; models do not fit there.)
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from videocrafter.presets import LORA_FILE, MODEL_INDEX

# Configuration, tokenizer and file system overhead beside the tensors.
_MARGIN_BYTES = 32 * 2**20


def check_target(path: Path, *, folder: bool, overwrite: bool) -> None:
    """Check that a model may be written at `path`, and that the place can be written at all; creates its parent.

    Raises:
        ValueError: something is there and `overwrite` is false; or what is there is no such model, and is never
            replaced; or a parent is a file.
        OSError: the place cannot be written.
    """
    if os.path.lexists(path):
        if path.is_dir() != folder:
            found, wanted = ("a folder", "a file") if path.is_dir() else ("a file", "a folder")
            raise ValueError(f"{path} is {found}, but {wanted} is to be written there; choose another name")
        if not overwrite:
            raise ValueError(f"{path} exists already; choose another name, or allow --overwrite")
        is_model = any((path / name).is_file() for name in (MODEL_INDEX, LORA_FILE))
        if folder and any(path.iterdir()) and not is_model:
            raise ValueError(
                f"the folder {path} holds something else than a model (no {MODEL_INDEX}), so it is not overwritten;"
                " choose another name"
            )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"a part of {path.parent} is a file, not a folder; choose another place") from None
    probe = _hidden_name(path)
    probe.touch(exist_ok=False)
    probe.unlink()


def check_space(path: Path, num_bytes: int) -> None:
    """Raise OSError, before anything is written, unless the disk of `path` has room for `num_bytes`."""
    free = shutil.disk_usage(path.parent).free
    needed = num_bytes + _MARGIN_BYTES
    if free < needed:
        raise OSError(
            f"the disk of {path.parent} has {free / 1e9:.1f} GB free, but {path.name} needs {needed / 1e9:.1f} GB;"
            " free some space or choose another disk"
        )


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a hidden empty folder; when the block ends well it becomes `path`, replacing a folder there."""
    hidden = _hidden_name(path)
    hidden.mkdir()
    try:
        yield hidden
        if path.is_dir():
            _exchange(hidden, path)
        else:
            hidden.rename(path)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a hidden name to write a file under; when the block ends well it becomes `path`."""
    hidden = _hidden_name(path)
    try:
        yield hidden
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)


def _exchange(new: Path, old: Path) -> None:
    # A folder cannot be renamed over one that holds files: step the old one aside, and back on failure.
    aside = _hidden_name(old)
    old.rename(aside)
    try:
        new.rename(old)
    except BaseException:
        aside.rename(old)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _hidden_name(path: Path) -> Path:
    return path.parent / f".{secrets.token_hex(8)}.part"
