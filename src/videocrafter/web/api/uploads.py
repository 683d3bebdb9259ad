"""Routes that receive files: inputs of jobs, and our own files whose settings are read back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from videocrafter.media.file_hash import file_sha256
from videocrafter.web.api.conditions import file_answer
from videocrafter.web.api.found import FOREVER, existing_file
from videocrafter.web.api.views import upload_view
from videocrafter.web.data_folder import is_id
from videocrafter.web.job_request import request_of_recording
from videocrafter.web.problems import Problem, as_problem, not_found
from videocrafter.web.store.uploads import Upload
from videocrafter.web.studio import Studio
from videocrafter.web.upload_check import check_file, read_recording, recognise_upload

_TYPES = {".png": "image/png", ".gif": "image/gif", ".webm": "video/webm", ".mp4": "video/mp4"}


class Receiver:
    """Receives the bodies of requests as files, a few at a time."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.free = studio.limits.uploads_at_once

    @asynccontextmanager
    async def received(self, request: Request, identity: str) -> AsyncIterator[Path]:
        """Yield the received file, and remove it afterwards. Raises Problem 413 or 429."""
        if not self.free:
            text = f"{self.studio.limits.uploads_at_once} uploads are being received; try again when they are done"
            raise Problem(429, "too-many-uploads", text)
        missing = self.studio.limits.disk_free_bytes - self.studio.folder.free_bytes()
        if missing > 0:
            text = f"the disk of the studio is almost full; free {missing / 2**20:.0f} MiB, then upload again"
            raise Problem(507, "disk-full", text, more={"limit": "disk_free_bytes"})
        path = self.studio.folder.uploads / f".{identity}.part"
        self.free -= 1
        try:
            await self._write(request, path)
            yield path
        finally:
            self.free += 1
            path.unlink(missing_ok=True)

    async def _write(self, request: Request, path: Path) -> None:
        most, size = self.studio.limits.clip_bytes, 0
        with path.open("wb") as file:
            chunks = request.stream()
            while (chunk := await self._next(chunks)) is not None:
                size += len(chunk)
                if size > most:
                    text = f"a file may have at most {most / 2**20:.0f} MiB"
                    raise Problem(413, "file-too-large", text, more={"limit": "clip_bytes"})
                await asyncio.to_thread(file.write, chunk)

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        """Return the next part of a body, or None at its end. A stalled upload would hold its place for ever."""
        most = self.studio.limits.stalled_seconds
        try:
            return await asyncio.wait_for(anext(chunks, None), most)
        except asyncio.TimeoutError as error:
            text = f"no data came for {most} seconds; upload the file again"
            raise Problem(408, "upload-stalled", text, more={"limit": "stalled_seconds"}) from error


def uploads_router(studio: Studio) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["uploads"])
    receiver = Receiver(studio)

    @router.post("/uploads", status_code=201, summary="Upload an image or a clip")
    async def create(request: Request, response: Response) -> dict[str, Any]:
        """Receive the bytes of a file as the body of the request, check them, and return the id for jobs.

        PNG, JPEG and WebP images and MP4, WebM and GIF clips are accepted. The content decides, not the name.
        """
        identity = studio.uploads.new_id()
        async with receiver.received(request, identity) as path:
            upload = await run_in_threadpool(_keep, studio, identity, path)
        response.headers["Location"] = f"/api/v1/uploads/{upload.id}"
        return upload_view(upload)

    @router.get("/uploads/{upload}", summary="Get an uploaded file", response_class=FileResponse)
    def get(upload: str, request: Request) -> Response:
        try:
            row = studio.uploads.get(upload)
        except KeyError as error:
            raise not_found("upload", upload) from error
        path = existing_file(studio.folder.upload(row.id, row.suffix), upload)
        return file_answer(request, path, _TYPES[row.suffix], FOREVER)

    @router.post("/recordings", summary="Read the settings back from one of our files")
    async def recordings(request: Request) -> dict[str, Any]:
        """Receive an mp4, webm, gif, PNG or JSON file; return `request`, which makes it again, and `notes`."""
        async with receiver.received(request, studio.uploads.new_id()) as path:
            recording = await run_in_threadpool(read_recording, path, studio.limits)
        return await run_in_threadpool(_request_of, studio, recording)

    return router


def _keep(studio: Studio, identity: str, arrived: Path) -> Upload:
    with arrived.open("rb") as file:
        suffix, _ = recognise_upload(file.read(16))
    named = arrived.with_name(f"{arrived.name}{suffix}")
    arrived.replace(named)
    try:
        checked = check_file(named, studio.folder.uploads / identity, studio.limits)
    finally:
        named.unlink(missing_ok=True)
    path = studio.folder.upload(identity, checked.suffix)
    upload = Upload(
        id=identity,
        kind=checked.kind,
        suffix=checked.suffix,
        sha256=file_sha256(path),
        width=checked.width,
        height=checked.height,
        num_bytes=path.stat().st_size,
    )
    kept = studio.uploads.add(upload)
    if kept.id != identity:
        path.unlink()
    return kept


def _video_with(studio: Studio, recorded: object, sha256: str) -> str | None:
    """Return the id of the gallery's video that a recording names, if it still has the recorded content."""
    identity = Path(str(recorded)[-200:]).stem
    if not is_id(identity):
        return None
    path = studio.folder.video(identity)
    known = identity in studio.videos.ids() and path.is_file()
    return identity if known and file_sha256(path) == sha256 else None


def _request_of(studio: Studio, recording: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(recording.get("prompt"), str):
        text = "this file holds no settings of videocrafter; use an original file, not a copy by another program"
        raise Problem(422, "no-recording", text)

    def find_content(setting: str, sha256: str) -> str | None:
        row = studio.uploads.by_content(sha256, "image" if setting.startswith("image") else "clip")
        return _video_with(studio, recording.get(setting), sha256) if row is None else row.id

    try:
        found, notes = request_of_recording(recording, studio.library(), find_content)
    except ValidationError as error:
        raise Problem(422, "broken-file", f"the settings are damaged: {as_problem(error).detail}") from error
    return {"request": found.stored(), "notes": notes}
