"""Routes of videos: the gallery, downloads, stars and the bin."""

from __future__ import annotations

import json
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict
from starlette.background import BackgroundTask

from videocrafter.media.video_encoding import encode_gif, encode_png
from videocrafter.media.video_file import read_frames
from videocrafter.web.api.views import MOST_PER_PAGE, read_cursor, video_view, write_cursor
from videocrafter.web.problems import Problem, not_found
from videocrafter.web.store.videos import Video
from videocrafter.web.studio import Studio
from videocrafter.web.worker.animation import encode_webp

_UNPACKING_S = 20.0
_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}


class VideoChange(BaseModel):
    """Changes of a video."""

    model_config = ConfigDict(extra="forbid")

    starred: bool


def videos_router(studio: Studio) -> APIRouter:
    """Return the routes. Those of files come first: their addresses are more special than that of a video."""
    router = APIRouter(tags=["videos"])
    _add_files(router, studio)
    _add_downloads(router, studio)
    _add_gallery(router, studio)
    return router


def _found(studio: Studio, video: str) -> Video:
    try:
        return studio.videos.get(video)
    except KeyError as error:
        raise not_found("video", video) from error


def _existing(path: Path, video: str) -> Path:
    if not path.is_file():
        raise not_found("file of the video", video)
    return path


def _add_files(router: APIRouter, studio: Studio) -> None:
    @router.get("/videos/{video}.mp4", summary="Play or download a video", response_class=FileResponse)
    def mp4(video: str, download: bool = False) -> FileResponse:
        path = _existing(studio.folder.video(_found(studio, video).id), video)
        name = f"videocrafter-{video[:8]}.mp4" if download else None
        return FileResponse(path, media_type="video/mp4", headers=_FOREVER, filename=name)

    @router.get("/videos/{video}/poster", summary="Still image of a video")
    def poster(video: str) -> Response:
        row = _found(studio, video)
        path = studio.folder.poster(row.id)
        if path.is_file():
            return FileResponse(path, media_type="image/webp", headers=_FOREVER)
        first = read_frames(_existing(studio.folder.video(row.id), video), max_frames=1)
        return Response(encode_webp(first, 1), media_type="image/webp", headers=_FOREVER)

    @router.get("/videos/{video}/recording", summary="All settings of a video")
    def recording(video: str, response: Response) -> dict[str, Any]:
        row = _found(studio, video)
        response.headers.update(_named(row, "json"))
        return dict(row.recording)


def _add_downloads(router: APIRouter, studio: Studio) -> None:
    # All frames of a video take much memory, so one video at a time is unpacked.
    unpacking = threading.Lock()

    @contextmanager
    def alone() -> Iterator[None]:
        if not unpacking.acquire(timeout=_UNPACKING_S):
            raise Problem(503, "busy", "other videos are being unpacked; try again shortly")
        try:
            yield
        finally:
            unpacking.release()

    @router.get("/videos/{video}.gif", summary="Download a video as a GIF")
    def gif(video: str) -> Response:
        row = _found(studio, video)
        path = _existing(studio.folder.video(row.id), video)
        if row.playback_fps > 50:
            raise Problem(422, "too-fast-for-gif", "a GIF plays at most 50 frames per second; download the mp4")
        comment = json.dumps(dict(row.recording)).encode("ascii")
        with alone():
            content = encode_gif(read_frames(path), row.playback_fps, comment)
        return Response(content, media_type="image/gif", headers=_named(row, "gif"))

    @router.get("/videos/{video}/frames.zip", summary="Download the frames as PNG files", response_class=FileResponse)
    def frames(video: str) -> FileResponse:
        row = _found(studio, video)
        source = _existing(studio.folder.video(row.id), video)
        with alone(), tempfile.NamedTemporaryFile(suffix=".zip", delete=False) as file:
            path = Path(file.name)
            try:
                with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                    for number, frame in enumerate(read_frames(source)):
                        archive.writestr(f"frame_{number:06d}.png", encode_png(frame))
            except BaseException:
                path.unlink()
                raise
        done = BackgroundTask(path.unlink, missing_ok=True)
        name = f"videocrafter-{row.id[:8]}.zip"
        return FileResponse(path, media_type="application/zip", filename=name, background=done)


def _add_gallery(router: APIRouter, studio: Studio) -> None:
    @router.get("/videos", summary="List videos")
    def listing(
        text: Annotated[str, Query(max_length=500)] = "",
        model: str | None = None,
        starred: bool = False,
        bin: bool = False,  # noqa: A002 (the name in the address)
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MOST_PER_PAGE)] = 60,
    ) -> dict[str, Any]:
        """Return a page of videos, newest first; `text` are words that the prompt must contain."""
        first = read_cursor(after)
        page = studio.videos.page(text=text, model=model, starred=starred, in_bin=bin, after=first, limit=limit)
        last = page[-1] if len(page) == limit else None
        cursor = None if last is None else write_cursor(last.created_s, last.id)
        return {"videos": [video_view(video) for video in page], "next": cursor, "models": studio.videos.models()}

    @router.get("/videos/{video}", summary="Get a video")
    def get(video: str) -> dict[str, Any]:
        row = _found(studio, video)
        return {**video_view(row), "recording": dict(row.recording)}

    @router.patch("/videos/{video}", summary="Star a video")
    def change(video: str, changes: VideoChange) -> dict[str, Any]:
        _found(studio, video)
        return video_view(studio.videos.star(video, changes.starred))

    @router.delete("/videos/{video}", summary="Move a video to the bin")
    def delete(video: str) -> dict[str, Any]:
        _found(studio, video)
        return video_view(studio.videos.set_deleted(video, True))

    @router.post("/videos/{video}/restore", summary="Take a video out of the bin")
    def restore(video: str) -> dict[str, Any]:
        _found(studio, video)
        return video_view(studio.videos.set_deleted(video, False))


def _named(row: Video, suffix: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="videocrafter-{row.id[:8]}.{suffix}"'}
