"""Outputs that appear whole or not at all.

Everything is first written under a hidden temporary name in the folder of its target, and renamed only when
it is complete: an exception, a full disk or Ctrl-C leaves neither half a file nor a damaged older one.
"""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from videocrafter.media.errors import MediaError, OutputExistsError

Content = bytes | Mapping[str, bytes]
"""The bytes of a file, or of each file of a folder by its name."""

_UNFINISHED = re.compile(r"\.[0-9a-f]{16}\.part")

_WHAT_TO_DO = {
    errno.ENOSPC: "the disk is full; free some space or choose an output on another disk",
    errno.EDQUOT: "the disk quota is used up; free some space or choose an output on another disk",
    errno.EFBIG: "the file would be larger than this system allows; choose a smaller video",
    errno.EACCES: "you may not write there; choose another folder",
    errno.EPERM: "you may not write there; choose another folder",
    errno.EROFS: "that disk is read-only; choose another folder",
    errno.ENOENT: "the folder cannot be made there; choose another folder",
    errno.ENOTDIR: "a part of that path is a file, not a folder; choose another folder",
    errno.EEXIST: "a part of that path is a file, not a folder; choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def check_writable(
    path: Path,
    *,
    folder: bool = False,
    overwrite: bool = False,
    may_replace: Callable[[str], bool] | None = None,
) -> None:
    """Find out, before any costly work, whether `path` can be written; creates its parent folder.

    Args:
        path: The file, or with `folder` the folder, that is to be written.
        folder: Whether a folder is to be written.
        overwrite: Whether something of the same kind at `path` may be replaced.
        may_replace: Says of a file name inside an existing folder whether it may be lost. A folder that holds
            anything else is never replaced, whatever `overwrite` says.

    Raises:
        OutputExistsError: `path` exists and `overwrite` is false.
        MediaError: `path` is of the other kind, holds foreign files, or cannot be written.
    """
    try:
        if os.path.lexists(path):
            _check_replaceable(path, folder, overwrite, may_replace)
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = _temporary_name(path)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise _explained(path, error) from error


def write_all(
    outputs: Mapping[Path, Content],
    *,
    overwrite: bool = False,
    may_replace: Callable[[str], bool] | None = None,
) -> None:
    """Write all outputs, or none of them.

    Args:
        outputs: What to write, by target. A mapping of names to bytes becomes a folder.
        overwrite: Whether existing targets are replaced.
        may_replace: As for `check_writable`.

    Raises:
        OutputExistsError: A target exists and `overwrite` is false.
        MediaError: A target cannot be written; nothing was changed.
    """
    for target, content in outputs.items():
        is_folder = not isinstance(content, bytes)
        check_writable(target, folder=is_folder, overwrite=overwrite, may_replace=may_replace)
    staged: dict[Path, Path] = {}
    target = Path()
    try:
        for target, content in outputs.items():
            staged[target] = _temporary_name(target)
            _write(staged[target], content)
        for target, temporary in staged.items():
            _rename(temporary, target)
    except OSError as error:
        raise _explained(target, error) from error
    finally:
        for temporary in staged.values():
            _remove(temporary)


def remove_unfinished(folder: Path) -> None:
    """Delete what a process that was killed while it wrote into `folder` has left. Nobody may be writing there."""
    for path in folder.iterdir():
        if _UNFINISHED.fullmatch(path.name):
            _remove(path)


def _check_replaceable(path: Path, folder: bool, overwrite: bool, may_replace: Callable[[str], bool] | None) -> None:
    if path.is_dir() != folder:
        found, wanted = ("a folder", "a file") if path.is_dir() else ("a file", "a folder")
        raise MediaError(f"{path} is {found}, but {wanted} is to be written there; choose another name")
    if not overwrite:
        raise OutputExistsError(
            f"{path} exists already; choose another name, or allow it to be replaced (--overwrite)"
        )
    if folder:
        foreign = sorted(p.name for p in path.iterdir() if p.is_dir() or not (may_replace and may_replace(p.name)))
        if foreign:
            raise MediaError(
                f"the folder {path} holds more than frames ({foreign[0]!r}), so it is not overwritten; "
                "choose another folder"
            )


def _temporary_name(path: Path) -> Path:
    # Beside the target, because a rename is atomic only within one file system. Not derived from the target's
    # name, which may be as long as the file system allows.
    return path.parent / f".{secrets.token_hex(8)}.part"


def _write(path: Path, content: Content) -> None:
    if isinstance(content, bytes):
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return
    path.mkdir()
    for name, data in content.items():
        _write(path / name, data)


def _rename(temporary: Path, target: Path) -> None:
    if not target.is_dir():
        temporary.replace(target)
        return
    # A folder cannot be renamed over one that holds files: step the old one aside, and back on failure.
    aside = _temporary_name(target)
    target.rename(aside)
    try:
        temporary.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _explained(path: Path, error: OSError) -> MediaError:
    advice = _WHAT_TO_DO.get(error.errno or 0, f"{error.strerror or error}; choose another output")
    return MediaError(f"cannot write {path}: {advice}")
