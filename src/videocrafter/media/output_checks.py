"""Check that an output can be written before costly work, and explain why it cannot."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from videocrafter.media.errors import MediaError, OutputError, OutputExistsError

Objection = Callable[[Path], str | None]
"""Says why an existing folder must not be replaced ("holds files other than frames"), or returns None."""

# Configuration, tokenizer and file system overhead in addition to the tensors.
_MARGIN_BYTES = 32 * 2**20

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or choose an output on another disk",
    errno.EDQUOT: "the disk quota is used up; free some space or choose an output on another disk",
    errno.EFBIG: "the file is larger than this disk or your limits allow; choose an output on another disk",
    errno.EACCES: "permission denied; choose a folder that you can write to",
    errno.EPERM: "permission denied; choose a folder that you can write to",
    errno.EROFS: "the disk is read-only; choose a folder on another disk",
    errno.ENOENT: "the folder cannot be created; choose another folder",
    errno.ENOTDIR: "part of the path is a file, not a folder; choose another folder",
    errno.EEXIST: "part of the path is a file, not a folder; choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}

# Texts of libraries that wrap a disk error in an exception of their own.
_WRAPPED = {
    "no space left": errno.ENOSPC,
    "file too large": errno.EFBIG,
    "disk quota": errno.EDQUOT,
    "input/output error": errno.EIO,
    "failed writing file": errno.EIO,
}


def check_writable(
    path: Path, *, folder: bool = False, overwrite: bool = False, objection: Objection | None = None
) -> None:
    """Check, before any costly work, that `path` can be written; creates its parent folder.

    Args:
        path: The file or, with `folder`, the folder to be written.
        folder: Whether the output is a folder.
        overwrite: Whether an existing output of the same kind may be replaced.
        objection: Checks an existing folder, which is not replaced if there is an objection, even with `overwrite`.
            Without it, only an empty folder is replaced.

    Raises:
        OutputExistsError: `path` exists and `overwrite` is false.
        OutputError: `path` cannot be written.
        MediaError: `path` is a folder instead of a file or the reverse, or must not be replaced.
    """
    try:
        if _exists(path):
            _check_replaceable(path, folder, overwrite, objection)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise explained(path, error) from error


def check_space(path: Path, num_bytes: int) -> None:
    """Check, before anything is written, that the disk of `path` has room for `num_bytes`.

    Raises:
        OutputError: It has not.
    """
    free = shutil.disk_usage(path.parent).free
    needed = num_bytes + _MARGIN_BYTES
    if free < needed:
        raise OutputError(
            f"the disk of {path.parent} has {free / 1e9:.1f} GB free, but {path.name} needs {needed / 1e9:.1f} GB;"
            " free some space or choose another disk"
        )


def explained(path: Path, error: OSError) -> OutputError:
    """Return the error to raise when the system refuses to write `path`: the reason and what to do."""
    advice = _ADVICE.get(error.errno or 0, f"{error.strerror or error}; choose another output")
    return OutputError(f"cannot write {path}: {advice}")


def find_disk_error(error: BaseException | None, written: Path) -> OSError | None:
    """Return the system's error behind an exception raised while `written` was being filled, or None.

    Libraries hide it: torch.save fails again while it closes its archive, safetensors quotes only the text. Errors
    that name a file elsewhere, such as a missing source, are not about the output.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            inside = error.filename is None or Path(os.fsdecode(error.filename)).is_relative_to(written)
            if inside and (error.errno in _ADVICE or error.errno == errno.EIO):
                return error
        elif code := next((code for text, code in _WRAPPED.items() if text in str(error).lower()), None):
            return OSError(code, os.strerror(code))
        error = error.__cause__ or error.__context__
    return None


def _exists(path: Path) -> bool:
    # Unlike os.path.lexists, this lets other errors through: a name that is too long, a file as parent.
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _check_replaceable(path: Path, folder: bool, overwrite: bool, objection: Objection | None) -> None:
    if path.is_dir() != folder:
        found, wanted = ("a folder", "a file") if path.is_dir() else ("a file", "a folder")
        raise MediaError(f"{path} is {found}, but the output is {wanted}; choose another name")
    if not overwrite:
        raise OutputExistsError.of(path)
    if not folder or not any(path.iterdir()):
        return
    reason = objection(path) if objection is not None else "is not empty"
    if reason is not None:
        raise MediaError(f"the folder {path} {reason}, so it is not overwritten; choose another folder")
