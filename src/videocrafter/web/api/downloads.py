"""Other forms of a video: GIF, an archive of PNG frames, and the pictures of the comparison page."""

from __future__ import annotations

import io
import itertools
import json
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from videocrafter.media.errors import MediaError
from videocrafter.media.video_encoding import encode_gif, encode_png
from videocrafter.media.video_reader import open_reader
from videocrafter.web.api.conditions import attachment, entity_tag, unchanged
from videocrafter.web.api.found import FOREVER, existing_file, found_video
from videocrafter.web.comparison import FILM_FORM, film_of
from videocrafter.web.problems import Problem, not_found
from videocrafter.web.studio import Studio

_UNPACKING_S = 20.0
_FASTEST_GIF = 50
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time of an archive: the same video makes the same bytes


class _Gif(Response):
    media_type = "image/gif"


class _WebP(Response):
    media_type = "image/webp"


class _Zip(StreamingResponse):
    media_type = "application/zip"


class _Unpacking:
    """Lets one video at a time be encoded anew, which takes memory and time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait for the turn. Raises Problem 503 if it does not come, 500 for a damaged file."""
        if not self._lock.acquire(timeout=_UNPACKING_S):
            raise Problem(503, "busy", "other videos are being unpacked; try again shortly")
        try:
            with _reading():
                yield
        finally:
            self._lock.release()


def downloads_router(studio: Studio) -> APIRouter:
    """Return the routes."""
    router, unpacking = APIRouter(), _Unpacking()
    _add_gif(router, studio, unpacking)
    _add_frames(router, studio)
    _add_film(router, studio, unpacking)
    return router


def _add_gif(router: APIRouter, studio: Studio, unpacking: _Unpacking) -> None:
    @router.get("/videos/{video}.gif", summary="Download a video as a GIF", response_class=_Gif)
    def gif(video: str, request: Request) -> Response:
        row = found_video(studio, video)
        path = existing_file(studio.folder.video(row.id), video)
        if row.playback_fps > _FASTEST_GIF:
            text = f"a GIF plays at most {_FASTEST_GIF} frames per second; download the mp4"
            raise Problem(422, "too-fast-for-gif", text)
        headers = {**FOREVER, **attachment(f"videocrafter-{row.id[:8]}.gif"), "ETag": entity_tag(path, "gif")}
        same = unchanged(request, headers["ETag"], headers)
        if same is not None:
            return same
        comment = json.dumps(dict(row.recording)).encode("ascii")
        with unpacking.alone(), open_reader(path, strict=False) as reader:
            content = encode_gif(reader.frames(), row.playback_fps, comment, num_frames=reader.num_frames)
        return _Gif(content, headers=headers)


def _add_frames(router: APIRouter, studio: Studio) -> None:
    @router.get("/videos/{video}/frames.zip", summary="Download the frames as PNG files", response_class=_Zip)
    def frames(video: str, request: Request) -> Response:
        """Stream an archive of PNG files, each with the settings of the video."""
        row = found_video(studio, video)
        path = existing_file(studio.folder.video(row.id), video)
        headers = {**FOREVER, **attachment(f"videocrafter-{row.id[:8]}.zip"), "ETag": entity_tag(path, "zip")}
        same = unchanged(request, headers["ETag"], headers)
        if same is not None:
            return same
        chunks = archive_of_frames(path, row.recording)
        # The first frame comes before the answer, so that a damaged file is an error and not a broken download.
        with _reading():
            first = next(chunks)
        return _Zip(itertools.chain([first], chunks), headers=headers)


def _add_film(router: APIRouter, studio: Studio, unpacking: _Unpacking) -> None:
    film = lru_cache(maxsize=4)(film_of)  # a page asks for each picture of a long video

    @router.get("/videos/{video}/film/{number}.webp", summary="Frames as tiles of a picture", response_class=_WebP)
    def picture(video: str, number: int, request: Request) -> Response:
        """Return picture `number` of the frames of a video, as the page Compare shows them."""
        row = found_video(studio, video)
        path = existing_file(studio.folder.video(row.id), video)
        # The address stays the same when a later version lays frames out differently.
        headers = {"Cache-Control": "private, no-cache", "ETag": entity_tag(path, f"{FILM_FORM}-{number}")}
        same = unchanged(request, headers["ETag"], headers)
        if same is not None:
            return same
        with unpacking.alone():
            pictures = film(path).pictures
        if not 0 <= number < len(pictures):
            raise not_found("picture of the video", str(number))
        return _WebP(pictures[number], headers=headers)


@contextmanager
def _reading() -> Iterator[None]:
    """Turn the errors of a damaged file into a problem."""
    try:
        yield
    except MediaError as error:
        text = "the file of this video is damaged; make it again with “Reuse settings”"
        raise Problem(500, "file-damaged", text) from error


def archive_of_frames(path: Path, recording: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield a zip archive with one PNG per frame, piece by piece; holds one frame at a time.

    Raises MediaError for a damaged video.
    """
    target = _Pieces()
    text = {"Comment": json.dumps(dict(recording))}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive, open_reader(path, strict=False) as reader:
        for number, frame in enumerate(reader.frames()):
            name = zipfile.ZipInfo(f"frame_{number:06d}.png", _EPOCH)
            archive.writestr(name, encode_png(frame, text))
            yield target.take()
    yield target.take()


class _Pieces(io.RawIOBase):
    """A file that cannot seek, and gives away what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def take(self) -> bytes:
        """Return what was written since the last time."""
        taken, self._pieces = b"".join(self._pieces), []
        return taken
