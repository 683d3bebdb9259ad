"""Web server of a study: one page, one script, and six requests.

Raters see identifiers of clips, never names of systems, and which questions are checks is not sent to them. The
server stores no address and writes no access log. Tokens travel in a header, so other sites cannot send requests in a
rater's name, and the links carry them after `#`, which browsers do not send to servers.
"""

import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi import Path as PathPart
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from videocrafter.evaluation.study.assignment import Task
from videocrafter.evaluation.study.design import ASPECTS, StudyDesign, read_design
from videocrafter.evaluation.study.group_commit import GroupCommit
from videocrafter.evaluation.study.media import Media
from videocrafter.evaluation.study.store import (
    DATABASE_FILE,
    AnswerStore,
    Progress,
    StoredAnswer,
    StudyError,
    UnknownRaterError,
    open_database,
    open_for_reading,
)

_LARGEST_BODY = 16 * 1024
Result = TypeVar("Result")
Position = Annotated[int, PathPart(ge=0, le=1_000_000)]
_RANGE = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})")
_MEDIA_TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".png": "image/png"}
_PAGE = {
    "": ("study.html", "text/html; charset=utf-8"),
    "study.js": ("study.js", "text/javascript; charset=utf-8"),
    "study.css": ("study.css", "text/css; charset=utf-8"),
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class AnswerBody(BaseModel):
    """Body of a request that stores an answer; see `AnswerStore.answer`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    answer: dict[str, str | int]
    revision: Annotated[int, Field(ge=0, le=1_000_000)]
    request: str
    seconds: FiniteFloat
    plays: Annotated[int, Field(le=1_000_000)]


class JoinBody(BaseModel):
    """Body of a request to take part."""

    model_config = ConfigDict(extra="forbid", strict=True)

    consent: bool


class Study:
    """A study that is served: its design, its files, and its answers.

    Changes are made by one thread. Reading takes less time than passing work to it, so it happens at once, on a
    second connection, which sees what is on disk.
    """

    def __init__(self, folder: Path) -> None:
        self.design: StudyDesign = read_design(folder)
        self.media = Media(self.design, folder)
        self._commits = GroupCommit(open_database(folder / DATABASE_FILE, self.design))
        self._store = AnswerStore(self.design, self._commits.connection)
        self._reading = open_for_reading(folder / DATABASE_FILE)
        self._read_store = AnswerStore(self.design, self._reading)

    def close(self) -> None:
        """Close the answers."""
        self._reading.close()
        self._commits.close()

    async def join(self) -> str:
        """Add a rater; return the token."""
        return await self._commits.run(self._store.join)

    async def session(self, token: str) -> tuple[Progress, str | None]:
        """Return the progress of a rater, and the completion code if nothing is missing."""

        def work(store: AnswerStore, rater: int) -> tuple[Progress, str | None]:
            progress = store.progress(rater)
            return progress, store.code(rater) if progress.finished else None

        return await self._read(token, work)

    async def task(self, token: str, position: int) -> tuple[Task, StoredAnswer | None]:
        """Return a task of a rater, and the answer to it."""
        return await self._read(token, lambda store, rater: store.task(rater, position))

    async def _read(self, token: str, work: Callable[[AnswerStore, int], Result]) -> Result:
        """Return what `work` reads about a rater. An invited rater is added at the first visit."""
        try:
            self._reading.execute("BEGIN")  # one state of the answers for all that is read
            try:
                rater = self._read_store.known_rater(token)
                if rater is not None:
                    return work(self._read_store, rater)
            finally:
                self._reading.execute("ROLLBACK")
        except sqlite3.OperationalError:  # locked for a moment; the thread waits
            pass
        return await self._commits.run(lambda: work(self._store, self._store.rater(token)))

    async def answer(self, token: str, position: int, body: AnswerBody) -> tuple[StoredAnswer, Task, Progress]:
        """Store an answer; return it with its task and the rater's progress."""

        def work() -> tuple[StoredAnswer, Task, Progress]:
            rater = self._store.rater(token)
            stored = self._store.answer(
                rater,
                position,
                body.answer,
                revision=body.revision,
                request=body.request,
                seconds=body.seconds,
                plays=body.plays,
            )
            return stored, self._store.task(rater, position)[0], self._store.progress(rater)

        return await self._commits.run(work)

    async def withdraw(self, token: str) -> None:
        """Delete a rater's answers, in the database and in its log."""
        await self._commits.run(lambda: self._store.withdraw(self._store.rater(token)), clear_log=True)

    def shown_task(self, task: Task, stored: StoredAnswer | None) -> dict[str, Any]:
        """Return what the page may know of a task: nothing about systems or checks."""
        item = self.design.items[task.item]
        prompt = self.design.prompts[item.prompt]
        clips = item.clips[::-1] if task.swapped else item.clips
        return {
            "training": task.role == "training",
            "prompt": prompt.text,
            "image": None if prompt.image is None else f"media/{prompt.image}",
            "clips": [f"media/{name}{self.design.suffix}" for name in clips],
            "answer": None if stored is None else stored.answer,
            "revision": 0 if stored is None else stored.revision,
        }

    def explanation(self, task: Task) -> str:
        """Return what a rater learns after a training question."""
        item = self.design.items[task.item]
        if item.kind == "same":
            return (
                "Both videos are the same, so the expected answer is “equal”. Some later questions are like this one."
            )
        if self.design.kind == "ratings":
            return "This video is damaged, so the lowest ratings are expected."
        return (
            f"The {'left' if task.swapped else 'right'} video is damaged, so the other one is better in every aspect."
        )


def study_app(folder: Path) -> FastAPI:
    """Return the application that serves a study.

    Raises:
        ValueError: the folder is not a complete study, or its answers belong to another one.
    """
    study = Study(folder)

    @asynccontextmanager
    async def closing(_: FastAPI) -> AsyncIterator[None]:
        yield
        study.close()

    app = FastAPI(title="Study", docs_url=None, redoc_url=None, openapi_url=None, lifespan=closing)
    app.state.study = study
    app.add_middleware(_Guard)
    app.add_exception_handler(StudyError, _on_study_error)
    app.add_exception_handler(sqlite3.Error, _on_database_error)
    _add_page(app)
    _add_media(app, study)
    _add_requests(app, study)
    return app


class _Guard:
    """Refuses requests of other sites and large bodies, and adds the security headers.

    Plain ASGI: the middleware of Starlette that takes a function starts a task per request, which costs as much as
    the rest of a request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        handler = _refusal(scope["method"], Headers(scope=scope)) or self._app
        await handler(scope, receive, send_with_headers)


def _refusal(method: str, headers: Headers) -> Response | None:
    if method in ("GET", "HEAD"):
        return None
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return JSONResponse({"code": "other_site", "message": "Requests of other sites are refused."}, 403)
    length = headers.get("content-length", "")
    # Without a stated length the body could be endless. Requests to delete have none.
    if method != "DELETE" and not (length.isdigit() and int(length) <= _LARGEST_BODY):
        return JSONResponse({"code": "too_large", "message": "The request is too large."}, 413)
    return None


async def _on_study_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, StudyError)
    return JSONResponse({"code": error.code, "message": str(error)}, error.status)


async def _on_database_error(_: Request, __: Exception) -> Response:
    message = "The answer could not be stored. Please try again in a moment."
    return JSONResponse({"code": "unavailable", "message": message}, 503, {"Retry-After": "2"})


def _add_page(app: FastAPI) -> None:
    folder = files("videocrafter.evaluation.study").joinpath("page")
    for path, (name, media_type) in _PAGE.items():
        content = folder.joinpath(name).read_bytes()

        async def page(content: bytes = content, media_type: str = media_type) -> Response:
            return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

        app.get(f"/{path}", include_in_schema=False)(page)


def _add_media(app: FastAPI, study: Study) -> None:
    @app.get("/media/{name}", response_model=None)
    async def media(name: str, request: Request) -> Response:
        """Send a clip or an image; only names of the design exist."""
        file = study.media.files.get(name)
        if file is None:
            raise StudyError(404, "no_file", "There is no such file.")
        tag, kind = f'"{file.sha256[:32]}"', _MEDIA_TYPES[file.path.suffix]
        headers = {"Cache-Control": "private, max-age=31536000, immutable", "ETag": tag, "Accept-Ranges": "bytes"}
        content = await study.media.content(name)
        if content is None:
            return FileResponse(file.path, media_type=kind, headers=headers, stat_result=file.stat)
        wanted = request.headers.get("range", "") if request.headers.get("if-range", tag) == tag else ""
        span = _span(wanted, len(content))
        if span is None:
            return Response(content, media_type=kind, headers=headers)
        start, stop = span
        if start >= stop:
            return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        return Response(content[start:stop], 206, headers, kind)


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """Return begin and end of the range that a header asks for, empty outside the file; None for the whole file.

    Phones play videos only if ranges work. Several ranges at once give the whole file, as the standard allows.
    """
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size


def _add_requests(app: FastAPI, study: Study) -> None:
    design = study.design

    # FastAPI would call a plain function in another thread.
    async def token(authorization: Annotated[str, Header()] = "") -> str:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "bearer" or not value:
            raise UnknownRaterError
        return value

    @app.get("/api/study")
    async def about() -> dict[str, Any]:
        """Return what is shown before a rater takes part."""
        question = "pair_question" if design.kind == "pairs" else "rating_question"
        return {
            "title": design.title,
            "kind": design.kind,
            "consent": design.consent,
            "entry": design.entry,
            "minutes": design.minutes,
            "aspects": [
                {"name": name, "title": ASPECTS[name].title, "question": getattr(ASPECTS[name], question)}
                for name in design.aspects
            ],
        }

    @app.post("/api/raters", status_code=201)
    async def join(body: JoinBody) -> dict[str, str]:
        """Add a rater who consents."""
        if not body.consent:
            raise StudyError(422, "consent", "Taking part needs your consent.")
        return {"token": await study.join()}

    @app.get("/api/session")
    async def session(token: Annotated[str, Depends(token)]) -> dict[str, Any]:
        """Return how far a rater is."""
        progress, code = await study.session(token)
        return {"total": progress.total, "next": progress.next, "finished": progress.finished, "code": code}

    @app.delete("/api/session", status_code=204)
    async def withdraw(token: Annotated[str, Depends(token)]) -> None:
        """Delete a rater's answers."""
        await study.withdraw(token)

    @app.get("/api/tasks/{position}")
    async def task(position: Position, token: Annotated[str, Depends(token)]) -> dict[str, Any]:
        """Return a question."""
        return study.shown_task(*await study.task(token, position))

    @app.put("/api/tasks/{position}")
    async def answer(position: Position, body: AnswerBody, token: Annotated[str, Depends(token)]) -> dict[str, Any]:
        """Store an answer; the reply is sent after it is on disk."""
        stored, task, progress = await study.answer(token, position, body)
        return {
            "revision": stored.revision,
            "answer": stored.answer,
            "next": progress.next,
            "finished": progress.finished,
            "explanation": study.explanation(task) if task.role == "training" else None,
        }
