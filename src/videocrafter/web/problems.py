"""Errors of the HTTP API as problem+json (RFC 9457): a status, a fixed code, and a sentence that says what to do."""

from __future__ import annotations

import errno
import logging
import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from videocrafter.generation.errors import GenerationError
from videocrafter.web.store.jobs import JobError

_log = logging.getLogger(__name__)
_JOB_STATUS = {"queue-full": 429, "idempotency-key-reused": 422}
_DISK_FULL = "the disk of the studio is full; empty the bin of the gallery, or free space elsewhere"
_WAIT_S = {429: "30", 503: "2"}


class Problem(Exception):  # noqa: N818 (the name of the standard)
    """An answer that is an error.

    Args:
        status: of HTTP.
        code: fixed text for programs.
        detail: sentence for people.
        more: further members, such as the limit that was exceeded.
        headers: further headers.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        more: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.more, self.headers = dict(more or {}), dict(headers or {})


def not_found(what: str, identity: str) -> Problem:
    """Return the problem of an unknown id."""
    return Problem(404, "not-found", f"there is no {what} {identity[:64]!r}; it may have been removed")


def problem_response(problem: Problem) -> JSONResponse:
    """Return the response of a problem."""
    headers = dict(problem.headers)
    if problem.status in _WAIT_S:
        headers.setdefault("Retry-After", _WAIT_S[problem.status])
    body = {
        "type": f"urn:videocrafter:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        **problem.more,
    }
    return JSONResponse(body, problem.status, headers, media_type="application/problem+json")


def as_problem(error: Exception) -> Problem:
    """Return the problem that describes an exception."""
    match error:
        case Problem():
            return error
        case GenerationError():
            return Problem(422, error.code, str(error))
        case JobError():
            return Problem(_JOB_STATUS.get(error.code, 409), error.code, str(error))
        case RequestValidationError() | ValidationError():
            faults = [{"setting": _setting(fault["loc"]), "message": fault["msg"]} for fault in error.errors()]
            text = "; ".join(f"{fault['setting']}: {fault['message']}" for fault in faults[:5])
            return Problem(422, "invalid-request", text, more={"faults": faults[:20]})
        case HTTPException():
            code = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "request-failed")
            return Problem(error.status_code, code, str(error.detail), headers=error.headers)
        case sqlite3.OperationalError() if "locked" in str(error) or "busy" in str(error):
            return Problem(503, "database-busy", "another program holds the studio's database; try again shortly")
        case sqlite3.OperationalError() if "full" in str(error):
            return Problem(507, "disk-full", _DISK_FULL)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return Problem(507, "disk-full", _DISK_FULL)
        case _:
            number = uuid.uuid4().hex[:8]
            _log.error("error %s", number, exc_info=error)
            return Problem(
                500, "internal-error", f"an unexpected error occurred; the server's log has it as {number}"
            )


def _setting(place: Sequence[int | str]) -> str:
    text = ".".join(str(part) for part in place if part != "body")
    return text.encode("utf-8", "replace").decode()


def install_problems(app: FastAPI) -> None:
    """Answer every exception of the application with a problem."""

    async def answer(_: Request, error: Exception) -> JSONResponse:
        return problem_response(as_problem(error))

    kinds = (
        Problem,
        GenerationError,
        JobError,
        RequestValidationError,
        HTTPException,
        sqlite3.Error,
        OSError,
        Exception,
    )
    for kind in kinds:
        app.add_exception_handler(kind, answer)
