"""The bytes of a source video as something that a decoder reads: the file itself, or a copy of a remote one."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from videocrafter.data.errors import BadSampleError
from videocrafter.data.locations import Location, is_remote
from videocrafter.media.output_checks import check_space, find_disk_error
from videocrafter.preparation.failures import REASONS, UnitError
from videocrafter.preparation.plan import PlannedVideo, check_unchanged

_TRIES = 5
_FIRST_PAUSE_S = 0.5
_BLOCK_BYTES = 1 << 22


@contextmanager
def fetched(video: PlannedVideo, scratch: Path) -> Iterator[Path | BinaryIO]:
    """Yield a local path or a seekable file. A remote video is copied to `scratch` and removed afterwards.

    A copy is decoded rather than the address itself, so that a lost connection is distinguished from a damaged file.

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
    check_space(scratch / "copy", video.length or video.size)
    with tempfile.NamedTemporaryFile(dir=scratch, prefix=".") as copy:
        _download(location, cast(BinaryIO, copy.file))
        yield Path(copy.name)


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
