"""The web application: pages, API, and the gate in front of both."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from videocrafter import __version__
from videocrafter.web.api.catalogue import catalogue_router
from videocrafter.web.api.events import EventHub, events_router
from videocrafter.web.api.jobs import jobs_router
from videocrafter.web.api.runs import runs_router
from videocrafter.web.api.uploads import uploads_router
from videocrafter.web.api.videos import videos_router
from videocrafter.web.head_requests import HeadRequests
from videocrafter.web.maintenance import clean
from videocrafter.web.page_routes import add_pages
from videocrafter.web.problems import Problem, install_problems, problem_response
from videocrafter.web.security import Gate
from videocrafter.web.studio import Studio
from videocrafter.web.worker.workers import Workers

_log = logging.getLogger(__name__)

_CLEAN_S = 3600.0
_LARGE = ("/api/v1/uploads", "/api/v1/recordings")


def create_app(studio: Studio, workers: Workers | None, hub: EventHub | None = None) -> Any:
    """Return the ASGI application.

    Args:
        studio: with its database.
        workers: started and stopped with the application; None for an application that only answers, as in
            tests.
        hub: of the event streams, for a server that ends them; by default a new one.
    """
    hub = EventHub(studio) if hub is None else hub

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if workers is not None:
            workers.start()
        cleaning = asyncio.create_task(_clean_hourly(studio))
        yield
        cleaning.cancel()
        await hub.stop()
        if workers is not None:
            await asyncio.to_thread(workers.stop)

    app = FastAPI(
        title="videocrafter studio",
        version=__version__,
        summary="Queue videos, follow them, and get them.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # its page loads scripts from other hosts
        redoc_url=None,
        lifespan=lifespan,
    )
    install_problems(app)
    for router in (
        jobs_router(studio, workers),
        videos_router(studio),
        uploads_router(studio),
        events_router(studio, hub),
        catalogue_router(studio, workers),
        runs_router(studio),
    ):
        app.include_router(router, prefix="/api/v1")
    add_pages(app, studio)
    _limit_bodies(app, studio)
    app.add_middleware(HeadRequests)
    config = studio.config
    return Gate(app, token=config.token, hosts=config.hosts, logins_per_minute=studio.limits.logins_per_minute)


def _limit_bodies(app: FastAPI, studio: Studio) -> None:
    @app.middleware("http")
    async def limit_body(request: Request, call_next: Any) -> Response:
        length = request.headers.get("content-length", "0")
        most = studio.limits.clip_bytes if request.url.path in _LARGE else studio.limits.body_bytes
        if length.isdigit() and int(length) > most:
            text = f"the request has {int(length)} bytes, and at most {most} are allowed here"
            name = "clip_bytes" if request.url.path in _LARGE else "body_bytes"
            return problem_response(Problem(413, "file-too-large", text, more={"limit": name}))
        if "transfer-encoding" in request.headers and request.url.path not in _LARGE:
            text = "the request states no length; send it whole, with the header Content-Length"
            return problem_response(Problem(411, "length-required", text))
        response: Response = await call_next(request)
        return response


async def _clean_hourly(studio: Studio) -> None:
    while True:
        try:
            await asyncio.to_thread(clean, studio)
        except Exception:  # noqa: BLE001 (such as a busy database: the next hour tries again)
            _log.exception("the folder could not be cleaned")
        await asyncio.sleep(_CLEAN_S)
