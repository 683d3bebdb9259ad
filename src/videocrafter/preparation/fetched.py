"""The bytes of a source video as something that a decoder reads: the file itself, or a copy of a remote one."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from videocrafter.data.errors import BadSampleError
from videocrafter.data.locations import Location, is_remote
from videocrafter.media.output_checks import check_space, find_disk_error
from videocrafter.preparation.failures import REASONS, UnitError
from videocrafter.preparation.plan import PlannedVideo, check_unchanged

_TRIES = 5
_FIRST_PAUSE_S = 0.5
_BLOCK_BYTES = 1 << 22
# More than `check_space` wants.
_SPARE_BYTES = 1 << 26


@contextmanager
def fetched(video: PlannedVideo, scratch: Path, max_bytes: float) -> Iterator[Path | BinaryIO]:
    """Yield a local path or a seekable file: of a remote video, a copy in `scratch`.

    A copy is decoded rather than the address itself, so that a lost connection is distinguished from a damaged file.
    It stays for the other units of the video, until newer copies need its place.

    Args:
        max_bytes: size of the copies that stay.

    Raises:
        UnitError: the video is missing or changed, or, after five tries, cannot be downloaded.
        OutputError: there is no room for the copy.
    """
    check_unchanged(video)
    location = video.location
    if location.path is not None:
        yield location.path
        return
    if not is_remote(video.url):
        with _opened(location) as file:
            yield file
        return
    scratch.mkdir(parents=True, exist_ok=True)
    kept, own = scratch / video.id, scratch / f".{secrets.token_hex(8)}"
    try:
        try:
            # A second name for the copy: another process may remove the first one at any time.
            os.link(kept, own)
            os.utime(own)
        except OSError:
            num_bytes = video.length or video.size
            _make_room(scratch, num_bytes, max_bytes)
            check_space(own, num_bytes)
            with own.open("wb") as file:
                _download(location, file)
            with suppress(OSError):  # another process was faster, or this file system has no links
                os.link(own, kept)
        yield own
    finally:
        own.unlink(missing_ok=True)


def _make_room(scratch: Path, num_bytes: int, max_bytes: float) -> None:
    """Remove the copies that were used least recently, until another one fits into the limit and on the disk."""
    copies = []
    for path in scratch.iterdir():
        with suppress(OSError):
            if not path.name.startswith("."):
                copies.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in copies)
    for _, size, path in sorted(copies):
        has_room = shutil.disk_usage(scratch).free >= num_bytes + _SPARE_BYTES
        if total + num_bytes > max_bytes or not has_room:
            path.unlink(missing_ok=True)
            total -= size


@contextmanager
def _opened(location: Location) -> Iterator[BinaryIO]:
    try:
        with location.open() as file:
            yield file
    except BadSampleError as error:
        raise UnitError(error.reason if error.reason in REASONS else "unreadable", str(error)) from error


def _download(location: Location, target: BinaryIO) -> None:
    for attempt in range(_TRIES):
        target.seek(0)
        target.truncate()
        try:
            with location.open() as file:
                while block := file.read(_BLOCK_BYTES):
                    target.write(block)
            target.flush()
            return
        except BadSampleError as error:
            if error.reason == "missing":
                raise UnitError("missing", str(error)) from error
            problem = str(error)
        except OSError as error:
            if find_disk_error(error, Path(target.name)) is not None:
                raise
            problem = str(error)
        time.sleep(_FIRST_PAUSE_S * 2**attempt if attempt + 1 < _TRIES else 0)
    raise UnitError("network", f"{location.name} could not be downloaded in {_TRIES} tries ({problem})")
