"""Routes of training runs: read only."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from videocrafter.training.tracking.log import sample_files
from videocrafter.training.tracking.run_comparison import RunSummary, find_runs
from videocrafter.web.api.conditions import file_answer
from videocrafter.web.problems import Problem, not_found
from videocrafter.web.studio import Studio

_POINTS = 200
_FRESH_S = 2.0
_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


def runs_router(studio: Studio) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["training"])

    seen_s, seen = -math.inf, dict[str, RunSummary]()

    def runs() -> dict[str, RunSummary]:
        nonlocal seen_s, seen
        root = studio.config.runs
        # A page asks for the list and then for each run: one reading of the folder serves them all.
        if root is not None and time.monotonic() - seen_s > _FRESH_S:
            try:
                seen = {_id(run): run for run in find_runs(root)}
            except ValueError:
                seen = {}
            seen_s = time.monotonic()
        return seen

    def found(run: str) -> RunSummary:
        known = runs()
        if run not in known:
            raise not_found("training run", run)
        return known[run]

    @router.get("/runs", summary="List training runs")
    def listing() -> dict[str, Any]:
        """Return the runs of the folder that the studio was started with."""
        return {
            "folder_given": studio.config.runs is not None,
            "runs": [_view(identity, run) for identity, run in runs().items()],
        }

    @router.get("/runs/{run}", summary="Curves and samples of a training run")
    def get(run: str) -> dict[str, Any]:
        summary = found(run)
        curves = {
            name: _thinned(list(zip(curve.samples, curve.values, strict=True)))
            for name, curve in sorted(summary.curves.items())
        }
        sheets = [{"name": path.parent.name, "number": number} for number, path in enumerate(_sheets(summary))]
        return {**_view(run, summary), "curves": curves, "samples": sheets}

    @router.get("/runs/{run}/samples/{number}", summary="A sample sheet", response_class=FileResponse)
    def sample(run: str, number: int, request: Request) -> Response:
        sheets = _sheets(found(run))
        if not 0 <= number < len(sheets):
            raise not_found("sample sheet", str(number))
        path = sheets[number].resolve()
        if not path.is_relative_to(found(run).folder.resolve()):
            raise Problem(404, "not-found", "this sample lies outside the run's folder")
        return file_answer(request, path, _TYPES[path.suffix.lower()], {"Cache-Control": "no-cache"})

    return router


def _id(run: RunSummary) -> str:
    return hashlib.sha256(str(run.folder).encode()).hexdigest()[:32]


def _view(identity: str, run: RunSummary) -> dict[str, Any]:
    left = None
    speed = run.latest("steps_per_s")
    if not run.finished and run.step and run.seconds:
        left = (run.num_steps - run.step) / speed if speed else run.seconds / run.step * (run.num_steps - run.step)
    names = ("name", "recipe", "stage", "step", "num_steps", "finished", "samples", "seconds")
    return {"id": identity, **{name: getattr(run, name) for name in names}, "seconds_left": left}


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    finite = [point for point in points if all(math.isfinite(value) for value in point)]
    step = max(1, math.ceil(len(finite) / _POINTS))
    return [*finite[:-1:step], *finite[-1:]]


def _sheets(run: RunSummary) -> list[Path]:
    """Return the newest sample sheets, newest first."""
    folders = sorted((path for path in run.folder.glob("samples/**") if path.is_dir()), reverse=True)
    sheets = [image for folder in folders[:20] for image in sample_files(folder)[0]]
    return sheets[:12]
