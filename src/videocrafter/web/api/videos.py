"""Routes of videos: the gallery, downloads, stars and the bin."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict

from videocrafter.media.video_file import read_frames
from videocrafter.web.api.conditions import attachment, file_answer
from videocrafter.web.api.downloads import downloads_router
from videocrafter.web.api.found import FOREVER, existing_file, found_video
from videocrafter.web.api.views import MOST_PER_PAGE, read_cursor, video_view, write_cursor
from videocrafter.web.maintenance import remove_videos
from videocrafter.web.studio import Studio
from videocrafter.web.worker.animation import encode_webp


class VideoChange(BaseModel):
    """Changes of a video."""

    model_config = ConfigDict(extra="forbid")

    starred: bool


def videos_router(studio: Studio) -> APIRouter:
    """Return the routes. Those of files come first: their addresses are more special than that of a video."""
    router = APIRouter(tags=["videos"])
    _add_files(router, studio)
    router.include_router(downloads_router(studio))
    _add_gallery(router, studio)
    return router


def _add_files(router: APIRouter, studio: Studio) -> None:
    @router.get("/videos/{video}.mp4", summary="Play or download a video", response_class=FileResponse)
    def mp4(video: str, request: Request, download: bool = False) -> Response:
        """Return the file, or a range of it; with `download`, a browser saves it."""
        row = found_video(studio, video)
        path = existing_file(studio.folder.video(row.id), video)
        name = attachment(f"videocrafter-{row.id[:8]}.mp4") if download else {}
        return file_answer(request, path, "video/mp4", {**FOREVER, **name})

    @router.get("/videos/{video}/poster", summary="Still image of a video", response_class=FileResponse)
    def poster(video: str, request: Request) -> Response:
        row = found_video(studio, video)
        path = studio.folder.poster(row.id)
        if path.is_file():
            return file_answer(request, path, "image/webp", FOREVER)
        first = read_frames(existing_file(studio.folder.video(row.id), video), max_frames=1)
        return Response(encode_webp(first, 1), media_type="image/webp", headers=FOREVER)

    @router.get("/videos/{video}/recording", summary="All settings of a video")
    def recording(video: str, response: Response) -> dict[str, Any]:
        row = found_video(studio, video)
        response.headers.update(attachment(f"videocrafter-{row.id[:8]}.json"))
        return dict(row.recording)


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
        row = found_video(studio, video)
        return {**video_view(row), "recording": dict(row.recording)}

    @router.patch("/videos/{video}", summary="Star a video")
    def change(video: str, changes: VideoChange) -> dict[str, Any]:
        found_video(studio, video)
        return video_view(studio.videos.star(video, changes.starred))

    @router.delete("/videos/{video}", summary="Move a video to the bin, or remove it for good")
    def delete(video: str, for_good: bool = False) -> dict[str, Any]:
        """Move a video to the bin. With `for_good`, remove it and its files, which frees their space."""
        # Not by a second request alone: clients repeat one whose answer was lost.
        row = found_video(studio, video)
        if for_good:
            remove_videos(studio, [row.id])
        elif row.deleted_s is None:
            row = studio.videos.set_deleted(video, True)
        return video_view(row)

    @router.delete("/bin", summary="Empty the bin")
    def empty_bin() -> dict[str, Any]:
        """Remove all videos of the bin and their files; return how many there were."""
        videos = studio.videos.in_bin()
        remove_videos(studio, videos)
        return {"removed": len(videos)}

    @router.post("/videos/{video}/restore", summary="Take a video out of the bin")
    def restore(video: str) -> dict[str, Any]:
        found_video(studio, video)
        return video_view(studio.videos.set_deleted(video, False))
