"""Locations of bytes: local files, fsspec URLs, or parts of either. Nothing is ever extracted to disk."""

from __future__ import annotations

import io
import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import BinaryIO, cast

import fsspec

from videocrafter.data.errors import BadSampleError, SourceError

# Large enough to amortise a round trip, small enough that a seek wastes little.
_REMOTE_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Location:
    """A range of bytes that any process can open.

    Attributes:
        url: local path, or URL such as "s3://bucket/key" or "hf://datasets/…".
        offset, size: range in bytes; None means to the end.
        member: name of that range in messages.
    """

    url: str
    offset: int = 0
    size: int | None = None
    member: str = ""

    @property
    def name(self) -> str:
        """Name in messages."""
        return f"{self.url}#{self.member}" if self.member else self.url

    @property
    def path(self) -> Path | None:
        """Path of the local file if this is the whole of one, else None."""
        return None if is_remote(self.url) or self.size is not None or self.offset else Path(self.url)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open for reading and seeking. Later read failures raise OSError.

        Raises:
            BadSampleError: the file is missing, unreadable or truncated.
        """
        with open_url(self.url) as file:
            total = self._total(file)
            size = max(0, total - self.offset) if self.size is None else self.size
            if self.offset + size > total:
                raise BadSampleError("truncated", f"{self.name} is truncated: {self.url} ends after {total} bytes")
            yield cast(BinaryIO, _Window(file, self.offset, size, self.name))

    def _total(self, file: BinaryIO) -> int:
        try:
            return file.seek(0, io.SEEK_END)
        except Exception as error:  # raised by whatever package serves the URL, as in `_Window.read`
            raise BadSampleError("unreadable", f"{self.name} cannot be read ({error})") from error

    def read(self, at_most: int) -> bytes:
        """Return all bytes.

        Raises:
            BadSampleError: as for `open`, or there are more than `at_most` bytes.
        """
        with self.open() as file:
            try:
                data = file.read(at_most + 1)
            except OSError as error:
                raise BadSampleError("unreadable", f"{self.name} cannot be read ({error})") from error
        if len(data) > at_most:
            raise BadSampleError("unreadable", f"{self.name} is too large, expected at most {at_most} bytes")
        return data


class _Window(io.RawIOBase):
    """A byte range of a file, as a file of its own."""

    def __init__(self, file: BinaryIO, offset: int, size: int, name: str) -> None:
        self._file, self._offset, self._size, self._at = file, offset, size, 0
        self.name = name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(f"seek before the start of {self.name}")
        self._at = start + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        wanted = left if size < 0 else min(size, left)
        try:
            self._file.seek(self._offset + self._at)
            data = self._file.read(wanted)
        except OSError:
            raise
        except Exception as error:
            # Packages that serve URLs raise errors of their own; callers expect OSError.
            raise OSError(f"{type(error).__name__}: {error}") from error
        self._at += len(data)
        return data


@contextmanager
def open_url(url: str) -> Iterator[BinaryIO]:
    """Open a local file or URL for reading bytes.

    Raises:
        BadSampleError: the file is missing or cannot be opened.
    """
    try:
        file = _opened(url)
    except FileNotFoundError:
        raise BadSampleError("missing", f"{url} does not exist") from None
    except IsADirectoryError:
        raise BadSampleError("unreadable", f"{url} is a folder, expected a file") from None
    except Exception as error:  # raised by whatever package serves the URL, or for an invalid URL
        raise BadSampleError("unreadable", f"{url} cannot be opened ({type(error).__name__}: {error})") from error
    with file:
        yield file


def _opened(url: str) -> BinaryIO:
    if not is_remote(url):
        return Path(url).open("rb")
    system, path = fsspec.core.url_to_fs(url)
    return cast(BinaryIO, system.open(path, "rb", block_size=_REMOTE_BLOCK_BYTES))


def is_remote(url: str) -> bool:
    """Return whether fsspec is needed to read `url`."""
    return "://" in url


def join(root: str, relative: str) -> str:
    """Return the path of `relative` below `root`.

    Raises:
        BadSampleError: `relative` is empty or leads out of `root`.
    """
    parts = relative.replace("\\", "/").split("/")
    windows = PureWindowsPath(relative)
    leaves = relative.startswith(("/", "\\", "~")) or ".." in parts or windows.drive or "\0" in relative
    if is_remote(relative) or leaves:
        raise BadSampleError("outside_folder", f"{relative!r} leads out of the folder {root}")
    if not relative.strip("/ "):
        raise BadSampleError("missing", f"an entry has an empty file name in the folder {root}")
    return f"{root.rstrip('/')}/{relative}" if root else relative


def join_or_absolute(root: str, path: str) -> str:
    """Return `path` if it is absolute, a URL or below a home folder (~), else its path below `root`.

    Raises:
        BadSampleError: `path` is empty, or relative and leads out of `root`.
    """
    path = expand_home(path)
    return path if is_remote(path) or Path(path).is_absolute() else join(root, path)


def expand_home(path: str) -> str:
    """Return a path with a leading ~ or ~user replaced by that home folder; unchanged if there is no such user."""
    try:
        return os.path.expanduser(path)  # noqa: PTH111  Path would change URLs and patterns
    except ValueError:  # characters that no user name has
        return path


def folder_of(url: str) -> str:
    """Return the folder of a file."""
    return posixpath.dirname(url) if is_remote(url) else str(Path(url).parent)


def list_files(root: str) -> list[str]:
    """Return all files below a folder except hidden ones, as sorted relative paths.

    Raises:
        SourceError: the folder does not exist or cannot be listed.
    """
    try:
        if is_remote(root):
            system, path = fsspec.core.url_to_fs(root)
            base = path.rstrip("/") + "/"
            names = [name.removeprefix(base) for name in system.find(path)] if system.isdir(path) else None
        else:
            folder = Path(root)
            # A broken link is listed, so that its clip is reported as missing.
            listed = (
                item for item in folder.rglob("*") if item.is_file() or (item.is_symlink() and not item.exists())
            )
            found = (item.relative_to(folder) for item in listed)
            names = [item.as_posix() for item in found] if folder.is_dir() else None
    except Exception as error:  # raised by whatever package serves the URL, or because it is missing
        raise _unreachable(root, error) from error
    if names is None:
        raise SourceError(f"{root} is not a folder, expected the folder that contains the files")
    return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))


def list_matches(pattern: str) -> list[str]:
    """Return the files that match a pattern, sorted and without duplicates.

    Braces such as {000..007} are expanded first, then * and ?.

    Raises:
        SourceError: no file matches, or the files cannot be listed.
    """
    found: list[str] = []
    for part in map(expand_home, expand_braces(pattern)):
        if not any(sign in part for sign in "*?["):
            found.append(part)
            continue
        try:
            if is_remote(part):
                system, path = fsspec.core.url_to_fs(part)
                found += [system.unstrip_protocol(name) for name in system.glob(path)]
            else:
                anchor = Path(part).anchor or "."
                found += [str(path) for path in Path(anchor).glob(str(Path(part).relative_to(Path(part).anchor)))]
        except Exception as error:  # raised by whatever package serves the URL, or because it is missing
            raise _unreachable(part, error) from error
    if not found:
        raise SourceError(f"no file matches {pattern}; check the path")
    return sorted(set(found))


def expand_braces(pattern: str) -> list[str]:
    """Expand braces: `a{00..02}b{x,y}` yields six names."""
    start = pattern.find("{")
    end = pattern.find("}", start)
    if start < 0 or end < 0:
        return [pattern]
    head, inner, tail = pattern[:start], pattern[start + 1 : end], pattern[end + 1 :]
    first, dots, last = inner.partition("..")
    if dots and first.isdecimal() and last.isdecimal():
        choices = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    else:
        choices = inner.split(",")
    return [head + choice + rest for choice in choices for rest in expand_braces(tail)]


def _unreachable(url: str, error: Exception) -> SourceError:
    advice = "install it" if isinstance(error, ImportError) else "check the address and your access to it"
    return SourceError(f"{url} cannot be listed ({type(error).__name__}: {error}); {advice}")
