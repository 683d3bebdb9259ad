"""Server-sent events: hints that something changed. One poll of the database serves all connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from videocrafter.web.problems import Problem
from videocrafter.web.store.events import Event
from videocrafter.web.studio import Studio

_log = logging.getLogger(__name__)
_POLL_S = 0.1
_RETRY_S = 1.0
_KEEP_ALIVE_S = 15.0
_MOST_WAITING = 500
_LARGEST_NUMBER = 2**63
_RESET = "event: reset\ndata: {}\n\n"


class EventHub:
    """Passes the events of the database on to all connections. Polls only while there are any."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.streams: set[asyncio.Queue[str | None]] = set()
        self._task: asyncio.Task[None] | None = None

    def join(self) -> asyncio.Queue[str | None]:
        """Add a connection. Raises Problem 429 if there are too many."""
        most = self.studio.limits.event_streams
        if len(self.streams) >= most:
            raise Problem(429, "too-many-streams", f"{most} pages receive events; close some, or poll the jobs")
        stream: asyncio.Queue[str | None] = asyncio.Queue(_MOST_WAITING)
        self.streams.add(stream)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._poll())
        return stream

    def leave(self, stream: asyncio.Queue[str | None]) -> None:
        """Remove a connection."""
        self.streams.discard(stream)

    def end_streams(self) -> None:
        """End all connections."""
        for stream in self.streams:
            while not stream.empty():
                stream.get_nowait()
            stream.put_nowait(None)

    async def stop(self) -> None:
        """End the poll."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _poll(self) -> None:
        number: int | None = None
        version = -1
        while self.streams:
            try:
                if number is None:
                    number = self.studio.events.newest()
                changed = self.studio.database.version()
                if changed != version:
                    for event in self.studio.events.after(number):
                        number = event.number
                        self._send(as_text(event))
                    version = changed
            except sqlite3.Error:
                _log.exception("the events cannot be read; the studio tries again")
                await asyncio.sleep(_RETRY_S)
            await asyncio.sleep(_POLL_S)

    def _send(self, text: str) -> None:
        for stream in self.streams:
            is_slow = stream.full()
            if is_slow:
                # A slow reader loses the hints and reads everything anew.
                while not stream.empty():
                    stream.get_nowait()
            stream.put_nowait(_RESET if is_slow else text)


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
        # First, so that no event falls between the missed ones and the next.
        stream = hub.join()
        try:
            missed = await asyncio.to_thread(_missed, studio, last_event_id)
        except BaseException:
            hub.leave(stream)
            raise

        async def lines() -> AsyncIterator[str]:
            yield "retry: 2000\n\n"
            for text in missed:
                yield text
            while (text_or_end := await _next(stream)) is not None:
                yield text_or_end

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        response = _EventResponse(lines(), media_type="text/event-stream", headers=headers)
        response.ended = lambda: hub.leave(stream)
        return response

    return router


class _EventResponse(StreamingResponse):
    """Calls `ended` also if the client left before the first line, when the iterator's own `finally` never runs."""

    ended: Callable[[], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.ended()


async def _next(stream: asyncio.Queue[str | None]) -> str | None:
    """Return the next event, or a comment that keeps the connection open; None at the end."""
    try:
        return await asyncio.wait_for(stream.get(), _KEEP_ALIVE_S)
    except asyncio.TimeoutError:
        return ": still here\n\n"


def _missed(studio: Studio, last: str | None) -> list[str]:
    if last is None:
        return []
    if not last.isascii() or not last.isdigit() or len(last) > len(str(_LARGEST_NUMBER)):
        return [_RESET]
    number = int(last)
    if number >= _LARGEST_NUMBER or number + 1 < studio.events.oldest():
        return [_RESET]
    return [as_text(event) for event in studio.events.after(number)]
