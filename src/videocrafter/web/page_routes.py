"""The pages: a shell with one HTML file and one script per page, and their static files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

from videocrafter.evaluation.comparison.page import PARTS_FOLDER, data_block, page_part
from videocrafter.web.comparison import MOST_VIDEOS, comparison_data
from videocrafter.web.problems import not_found
from videocrafter.web.studio import Studio

PAGES = ("make", "queue", "gallery", "compare", "live", "train")
_FOLDER = Path(__file__).parent / "pages"
_SIGN_OUT = '<form id="sign-out" method="post" action="/logout"><button class="quiet">Sign out</button></form>'


class _Static(StaticFiles):
    """Files that the browser asks for again each time, so that pages and scripts are of one version."""

    def file_response(self, *args: Any, **settings: Any) -> Response:
        response = super().file_response(*args, **settings)
        response.headers["Cache-Control"] = "no-cache"
        return response


def add_pages(app: FastAPI, studio: Studio) -> None:
    """Add the pages. They come last: a page's address is any name."""
    shell = _part("shell").replace("{{sign_out}}", "" if studio.config.token is None else _SIGN_OUT)

    def page(name: str, content: str | None = None) -> HTMLResponse:
        content = _part(name) if content is None else content
        html = shell.replace("{{page}}", name).replace("{{title}}", name.capitalize()).replace("{{content}}", content)
        return HTMLResponse(html, headers={"Cache-Control": "no-cache"})

    @app.get("/", include_in_schema=False)
    def home() -> HTMLResponse:
        return page("make")

    @app.get("/login", include_in_schema=False)
    def login() -> FileResponse:
        return FileResponse(_FOLDER / "login.html", headers={"Cache-Control": "no-store"})

    @app.get("/compare", include_in_schema=False)
    def compare(ids: str = "", jobs: str = "") -> HTMLResponse:
        """Show videos by their ids, and those of jobs as they are finished."""
        return page("compare", _comparison(studio, _names(ids), _names(jobs)))

    @app.get("/{name}", include_in_schema=False)
    def any_page(name: str) -> HTMLResponse:
        if name not in PAGES:
            raise not_found("page", name)
        return page(name)

    app.mount("/static", _Static(directory=_FOLDER / "static"), name="static")
    app.mount("/comparison", _Static(directory=PARTS_FOLDER), name="comparison")


def _part(name: str) -> str:
    return (_FOLDER / f"{name}.html").read_text(encoding="utf-8")


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(filter(None, text.split(","))))[:MOST_VIDEOS]


def _comparison(studio: Studio, ids: Sequence[str], jobs: Sequence[str]) -> str:
    """Return the content of the page Compare; videos that are gone are counted."""
    videos = studio.videos.some(ids)
    gone = len(ids) - len(videos)
    made = [video for job in jobs for video in studio.videos.of_job(job)]
    videos += [video for video in made if video.deleted_s is None]
    data = comparison_data(videos[:MOST_VIDEOS]) | {"gone": gone, "jobs": list(jobs)}
    # Not all of these are cells: some are in the bin, equal to another, or more than a page shows.
    data["considered"] = [video.id for video in made]
    stage = _part("comparison").replace("{{controls}}", page_part("controls.html")) if videos else ""
    # Texts of users come last, so that nothing in them is replaced.
    return _part("compare").replace("{{stage}}", stage).replace("{{data}}", data_block(data))
