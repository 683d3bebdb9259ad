"""Server-sent events: hints that something changed. One poll of the database serves all connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse

from videocrafter.web.problems import Problem
from videocrafter.web.store.events import Event
from videocrafter.web.studio import Studio

_POLL_S = 0.1
_KEEP_ALIVE_S = 15.0
_MOST_WAITING = 500
_RESET = "event: reset\ndata: {}\n\n"


class EventHub:
    """Passes the events of the database on to all connections. Polls only while there are any."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.streams: set[asyncio.Queue[str]] = set()
        self._task: asyncio.Task[None] | None = None

    def join(self) -> asyncio.Queue[str]:
        """Add a connection. Raises Problem 429 if there are too many."""
        most = self.studio.limits.event_streams
        if len(self.streams) >= most:
            raise Problem(429, "too-many-streams", f"{most} pages receive events; close some, or poll the jobs")
        stream: asyncio.Queue[str] = asyncio.Queue(_MOST_WAITING)
        self.streams.add(stream)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._poll())
        return stream

    def leave(self, stream: asyncio.Queue[str]) -> None:
        """Remove a connection."""
        self.streams.discard(stream)

    async def stop(self) -> None:
        """End the poll."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _poll(self) -> None:
        number, version = self.studio.events.newest(), -1
        while self.streams:
            changed = self.studio.database.version()
            if changed != version:
                version = changed
                for event in self.studio.events.after(number):
                    number = event.number
                    self._send(as_text(event))
            await asyncio.sleep(_POLL_S)

    def _send(self, text: str) -> None:
        for stream in self.streams:
            if stream.full():
                # A slow reader loses the hints and reads everything anew.
                while not stream.empty():
                    stream.get_nowait()
                text = _RESET
            stream.put_nowait(text)


def as_text(event: Event) -> str:
    """Return an event in the format of server-sent events."""
    data: dict[str, object] = {"id": event.subject}
    if event.kind == "progress":
        data |= {"step": event.step, "num_steps": event.num_steps, "preview": event.preview}
    return f"id: {event.number}\nevent: {event.kind}\ndata: {json.dumps(data)}\n\n"


def events_router(studio: Studio, hub: EventHub) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["events"])

    @router.get("/events", summary="Receive hints about changes")
    async def events(last_event_id: Annotated[str | None, Header()] = None) -> StreamingResponse:
        """Stream events "queue", "progress" and "video" with the id of what changed, and "reset" after a gap.

        They are hints: read the jobs after every event, and after every connection.
        """
        stream = hub.join()
        missed = _missed(studio, last_event_id)

        async def lines() -> AsyncIterator[str]:
            try:
                yield "retry: 2000\n\n"
                for text in missed:
                    yield text
                while True:
                    yield await _next(stream)
            finally:
                hub.leave(stream)

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)

    return router


async def _next(stream: asyncio.Queue[str]) -> str:
    """Return the next event, or a comment that keeps the connection open."""
    try:
        return await asyncio.wait_for(stream.get(), _KEEP_ALIVE_S)
    except asyncio.TimeoutError:
        return ": still here\n\n"


def _missed(studio: Studio, last: str | None) -> list[str]:
    if last is None:
        return []
    if not last.isascii() or not last.isdigit() or int(last) + 1 < studio.events.oldest():
        return [_RESET]
    return [as_text(event) for event in studio.events.after(int(last))]
