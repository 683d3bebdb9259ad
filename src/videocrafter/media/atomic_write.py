"""Write files and folders so that they appear complete or not at all.

Output is written under a hidden temporary name next to its target, flushed to disk, and then renamed. An exception, a
full disk, Ctrl-C, a killed process or a power failure never leaves a partial file under the final name, and what was
there before stays until the rename.

Temporary names are random, so processes that write the same target do not disturb each other: the last one wins or,
without permission to overwrite, all but the first one fail.
"""

import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from videocrafter.media.errors import MediaError, OutputExistsError
from videocrafter.media.output_checks import Objection, check_writable, explained, find_disk_error

Content = bytes | Mapping[str, bytes] | Path
"""The bytes of a file, or of each file of a folder by its name; or a file or folder on the same disk, to be moved."""

# `.part` is output that is being written. `.old` is what a new version is about to replace.
_PART, _OLD = ".part", ".old"
_UNFINISHED = re.compile(r"\.[0-9a-f]{16}\.part")
_LEFTOVER = re.compile(r"\.[0-9a-f]{16}\.(part|old)|\.tmp-.*")  # earlier versions wrote under .tmp-NAME
_SECONDS_UNTIL_STALE = 24 * 3600.0
_EXISTS = (errno.EEXIST, errno.ENOTEMPTY)


@contextmanager
def whole_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary name to write a file under; it becomes `path` when the block completes.

    Args:
        path: The file. Its parent folder is created.
        overwrite: Whether an existing file is replaced.

    Raises:
        OutputExistsError: `path` exists and `overwrite` is false.
        OutputError: `path` cannot be written, also if the block failed because of the disk.
    """
    with _whole(path, overwrite=overwrite, folder=False) as temporary:
        yield temporary


@contextmanager
def whole_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary empty folder; it becomes `path` when the block completes.

    Args:
        path: The folder. Its parent folder is created.
        overwrite: Whether an existing folder is replaced with everything in it.

    Raises:
        OutputExistsError: `path` exists and `overwrite` is false.
        OutputError: `path` cannot be written, also if the block failed because of the disk.
    """
    with _whole(path, overwrite=overwrite, folder=True) as temporary:
        yield temporary


@contextmanager
def parts_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden empty folder inside `folder` for parts of an output that is too large for memory.

    It is removed when the block ends. Pass finished parts to `write_all`, which moves them.

    Raises:
        OutputError: it cannot be created, or the disk fails in the block.
    """
    parts = _temporary_name(folder / "parts")
    with _explaining(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, min_age_s=_SECONDS_UNTIL_STALE)
        parts.mkdir()
    try:
        yield parts
    except Exception as error:
        cause = find_disk_error(error, parts)
        if cause is None or isinstance(error, MediaError):
            raise
        raise explained(folder, cause) from error
    finally:
        _remove(parts)


def write_all(
    outputs: Mapping[Path, Content], *, overwrite: bool = False, objection: Objection | None = None
) -> None:
    """Write several outputs: all of them, or none.

    Args:
        outputs: Content by target. A mapping of names to bytes becomes a folder; what a path names is moved, such as
            parts of `parts_folder`.
        overwrite: Whether existing targets are replaced.
        objection: As for `check_writable`.

    Raises:
        OutputExistsError: A target exists and `overwrite` is false.
        MediaError: A target cannot be written; nothing was changed.
    """
    for target, content in outputs.items():
        is_folder = content.is_dir() if isinstance(content, Path) else not isinstance(content, bytes)
        check_writable(target, folder=is_folder, overwrite=overwrite, objection=objection)
        remove_leftovers(target.parent, min_age_s=_SECONDS_UNTIL_STALE)
    staged: dict[Path, Path] = {}
    moved: list[tuple[Path, Path | None]] = []
    target = Path()
    try:
        for target, content in outputs.items():
            staged[target] = _temporary_name(target)
            _write(staged[target], content)
        for target, temporary in staged.items():
            moved.append((target, _move(temporary, target, overwrite=overwrite)))
        for folder in {target.parent for target in outputs}:
            _flush(folder)
    except BaseException as error:
        for changed, old in reversed(moved):
            if old is None or changed.is_dir():
                _remove(changed)
            _restore(changed, old)
        moved.clear()
        if isinstance(error, OSError):
            raise explained(target, error) from error
        raise
    finally:
        for leftover in (*staged.values(), *(old for _, old in moved if old is not None)):
            _remove(leftover)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, replacing an existing one.

    Raises:
        MediaError: It cannot be written; an existing file is unchanged.
    """
    write_all({path: text.encode()}, overwrite=True)


def move_folder(source: Path, target: Path) -> None:
    """Flush a folder to disk and rename it, replacing an existing folder. Both have the same parent or file system.

    Raises:
        OutputError: It cannot be moved; an existing folder is unchanged.
    """
    with _explaining(target):
        _publish(source, target, overwrite=True)


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is unfinished output of this module."""
    return _LEFTOVER.fullmatch(name) is not None


def remove_leftovers(folder: Path, *, min_age_s: float | None = None) -> None:
    """Delete what killed processes left in `folder`. Does nothing if the folder does not exist.

    Args:
        folder: Subfolders are not searched.
        min_age_s: Delete only unfinished output that has not changed for this many seconds, because other processes
            may be writing in `folder`. None deletes every leftover; the caller makes sure that nobody is writing.
    """
    with suppress(OSError):
        leftovers = [Path(entry.path) for entry in os.scandir(folder) if is_leftover(entry.name)]
        for path in leftovers:
            # A process killed in the middle of a replacement leaves the only complete version under `.old`.
            if min_age_s is None or (_UNFINISHED.fullmatch(path.name) and _age_s(path) >= min_age_s):
                _remove(path)


@contextmanager
def _whole(path: Path, *, overwrite: bool, folder: bool) -> Iterator[Path]:
    temporary = _temporary_name(path)
    with _explaining(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, min_age_s=_SECONDS_UNTIL_STALE)
        if folder:
            temporary.mkdir()
    try:
        try:
            yield temporary
        except Exception as error:
            cause = find_disk_error(error, temporary)
            if cause is None:
                raise
            raise explained(path, cause) from error
        with _explaining(path):
            _publish(temporary, path, overwrite=overwrite)
    finally:
        _remove(temporary)


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    try:
        yield
    except MediaError:
        raise
    except OSError as error:
        raise explained(path, error) from error


def _publish(temporary: Path, target: Path, *, overwrite: bool) -> None:
    """Flush what lies under the temporary name and give it its final name."""
    _flush_tree(temporary)
    old = _move(temporary, target, overwrite=overwrite)
    _flush(target.parent)
    if old is not None:
        _remove(old)


def _move(temporary: Path, target: Path, *, overwrite: bool) -> Path | None:
    """Rename; return where the replaced content is, which the caller restores or removes.

    Raises OutputExistsError if `target` exists and `overwrite` is false, OSError if the rename fails. In both cases
    `target` is unchanged.
    """
    while True:
        old = _set_aside(target) if overwrite else None
        try:
            if temporary.is_dir():
                temporary.rename(target)
            elif overwrite:
                temporary.replace(target)
            else:
                _rename_to_new(temporary, target)
        except BaseException as error:
            _restore(target, old)
            exists = isinstance(error, OSError) and error.errno in _EXISTS
            if exists and overwrite and temporary.is_dir():
                continue  # another process put its folder there after the old one was set aside
            if exists:
                raise OutputExistsError.of(target) from None
            raise
        return old


def _set_aside(target: Path) -> Path | None:
    """Keep the content of `target` under another name; return the name, or None if there is no `target`."""
    aside = target.parent / f".{secrets.token_hex(8)}{_OLD}"
    try:
        if target.is_dir():
            target.rename(aside)
            return aside
        try:
            os.link(target, aside, follow_symlinks=False)  # unlike a rename, never leaves the target missing
        except FileNotFoundError:
            raise
        except OSError:  # this file system has no hard links
            target.rename(aside)
    except FileNotFoundError:
        return None
    return aside


def _restore(target: Path, old: Path | None) -> None:
    """Move set-aside content back, unless another process has written `target` in the meantime."""
    if old is None:
        return
    with suppress(OSError):
        old.replace(target)
    if os.path.lexists(target):
        _remove(old)


def _rename_to_new(temporary: Path, target: Path) -> None:
    """Rename a file, raising FileExistsError rather than replacing another one."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # this file system has no hard links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        temporary.rename(target)
    else:
        temporary.unlink()


def _temporary_name(path: Path) -> Path:
    # In the target's folder, because a rename is atomic only within one file system. Not derived from the target's
    # name, which may be as long as the file system allows.
    return path.parent / f".{secrets.token_hex(8)}{_PART}"


def _write(path: Path, content: Content) -> None:
    if isinstance(content, Path):
        _flush_tree(content)
        content.rename(path)
        return
    if isinstance(content, bytes):
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return
    path.mkdir()
    for name, data in content.items():
        _write(path / name, data)
    _flush(path)


def _flush_tree(path: Path) -> None:
    """Flush a file, or a folder with everything in it, and make private files as readable as new ones are."""
    mode = _new_file_mode(path)
    for one in (*path.rglob("*"), path):
        if one.is_symlink():
            continue
        # safetensors creates files that only their owner can read.
        if one.is_file() and stat.S_IMODE(one.stat().st_mode) == stat.S_IRUSR | stat.S_IWUSR:
            one.chmod(mode)
        _flush(one)


def _flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    if os.name != "posix":
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or path.is_file():  # some network disks sync no folders
            raise
    finally:
        os.close(descriptor)


def _new_file_mode(path: Path) -> int:
    """Permissions of a file that is created now next to `path`; the umask cannot be read without changing it."""
    probe = _temporary_name(path)
    probe.touch(exist_ok=False)
    try:
        return stat.S_IMODE(probe.stat().st_mode)
    finally:
        probe.unlink()


def _age_s(path: Path) -> float:
    """Seconds since the last change of a file, or of anything in a folder."""
    return time.time() - max(one.stat().st_mtime for one in (path, *path.rglob("*")))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
