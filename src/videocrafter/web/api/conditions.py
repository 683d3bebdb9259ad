"""Conditional and partial requests (RFC 9110): entity tags, 304, and ranges that a file does not have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import FileResponse, Response

from videocrafter.web.problems import Problem

_ONE_RANGE = re.compile(r"\d{1,18}-\d{0,18}|-\d{1,18}", re.ASCII)


def entity_tag(path: Path, form: str) -> str:
    """Return the entity tag of a file in a form, such as "gif"; it changes with the file."""
    status = path.stat()
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}-{form}"'


def unchanged(request: Request, tag: str, headers: dict[str, str]) -> Response | None:
    """Return the answer 304 if the client has this version, None if it needs the content."""
    known = request.headers.get("if-none-match")
    if known is None:
        return None
    # A weak tag is as good as a strong one here, by RFC 9110, section 13.1.2.
    tags = {one.strip().removeprefix("W/") for one in known.split(",")}
    if tag not in tags and "*" not in tags:
        return None
    kept = {name: value for name, value in headers.items() if name.lower() in ("cache-control", "etag")}
    return Response(status_code=304, headers={**kept, "ETag": tag})


def file_answer(request: Request, path: Path, media_type: str, headers: dict[str, str]) -> Response:
    """Return a file, the range of it that was asked for, or 304.

    Raises Problem 400 or 416 for a range that the file does not have.
    """
    tag = entity_tag(path, path.suffix.removeprefix("."))
    headers = {**headers, "ETag": tag}
    same = unchanged(request, tag, headers)
    if same is not None:
        return same
    if request.headers.get("if-range") in (None, tag):
        _check_range(request.headers.get("range"), path.stat().st_size)
    return FileResponse(path, media_type=media_type, headers=headers)


def attachment(name: str) -> dict[str, str]:
    """Return the header that makes a browser save a file under a name of ASCII letters."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _check_range(text: str | None, size: int) -> None:
    if text is None:
        return
    unit, _, given = text.partition("=")
    ranges = [one.strip() for one in given.split(",")]
    if unit.strip().lower() != "bytes" or not all(_ONE_RANGE.fullmatch(one) for one in ranges):
        raise Problem(400, "invalid-range", f"the range {text[:60]!r} is not of the form bytes=FIRST-LAST")
    if all(_is_beyond(one, size) for one in ranges):
        more: dict[str, Any] = {"size": size}
        raise Problem(
            416,
            "range-not-satisfiable",
            f"the file has {size} bytes, and the range {text[:60]!r} lies beyond them",
            more=more,
            headers={"Content-Range": f"bytes */{size}"},
        )


def _is_beyond(one: str, size: int) -> bool:
    first, _, last = one.partition("-")
    return int(first) >= size if first else int(last) == 0
