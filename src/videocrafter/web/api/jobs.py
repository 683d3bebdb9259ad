"""Routes of jobs and of the queue."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict

from videocrafter.web.api.views import MOST_PER_PAGE, job_view, queue_view, read_cursor, write_cursor
from videocrafter.web.data_folder import is_id
from videocrafter.web.job_request import Id, JobRequest, check_request, workload_of
from videocrafter.web.problems import Problem, not_found
from videocrafter.web.store.jobs import Job
from videocrafter.web.studio import Studio
from videocrafter.web.worker.workers import Workers

PAUSE_REASONS = {
    "user": "the queue was paused",
    "failures": "several jobs in a row failed for the same reason; look at them, then resume",
    "interrupted": "a job ended the worker again and again and was stopped; look at it, then resume",
    "disk-low": (
        "the disk is almost full; free {missing} MiB, and the queue resumes by itself. Emptying the bin of the"
        " gallery frees space"
    ),
}
_ENDED_S = 60.0


class _WebP(Response):
    media_type = "image/webp"


class MoveRequest(BaseModel):
    """A place in the queue: before another job, or at the end if `before` is null."""

    model_config = ConfigDict(extra="forbid")

    before: Id | None = None


def jobs_router(studio: Studio, workers: Workers | None) -> APIRouter:
    """Return the routes.

    Args:
        workers: None if none runs, as in tests.
    """
    router = APIRouter(tags=["jobs"])
    _add_creation(router, studio)
    _add_live(router, studio)
    _add_reading(router, studio)
    _add_changes(router, studio)
    _add_queue(router, studio, workers)
    _add_estimate(router, studio, workers)
    return router


def _found(studio: Studio, job: str) -> Job:
    try:
        return studio.jobs.get(job)
    except KeyError as error:
        raise not_found("job", job) from error


def _view(studio: Studio, job: Job) -> dict[str, Any]:
    if job.state not in ("queued", "running"):
        return job_view(job)
    views = queue_view(studio, studio.jobs.waiting(until=job.id), time.time())
    return next((one for one in views if one["id"] == job.id), job_view(job))


def _add_creation(router: APIRouter, studio: Studio) -> None:
    @router.post("/jobs", status_code=201, summary="Queue a job")
    def create(
        request: JobRequest,
        response: Response,
        idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
    ) -> dict[str, Any]:
        """Check a request and put it at the end of the queue.

        With the header Idempotency-Key, a repeated request returns the job of the first one, with status 200.
        """
        check_request(request, studio.library(), studio.limits)
        # A repeated request without a seed must not differ from the first one by its random seed.
        if idempotency_key is not None and request.seed is None:
            request = request.model_copy(update={"seed": _seed_of(idempotency_key)})
        stored, most = request.with_seed().stored(), studio.limits.queued_jobs
        job, is_new = studio.jobs.add(stored, key=idempotency_key, most_queued=most)
        response.status_code = 201 if is_new else 200
        response.headers["Location"] = f"/api/v1/jobs/{job.id}"
        return job_view(job)


def _add_live(router: APIRouter, studio: Studio) -> None:
    lock, ended_s = threading.Lock(), dict[str, float]()

    @router.put("/live/{page}", summary="Follow a prompt while it is typed")
    def live(page: Id, request: JobRequest) -> dict[str, Any]:
        """Replace the job of a page that follows its prompt. Such jobs run only while no other job waits."""
        check_request(request, studio.library(), studio.limits)
        stored = request.with_seed().stored()
        with lock:
            # The last request of a page that is closed may arrive after its end.
            if time.monotonic() - ended_s.get(page, -math.inf) < _ENDED_S:
                raise Problem(409, "live-ended", "this page was closed; use another id for a new page")
            return job_view(studio.jobs.add_live(page, stored, most_queued=studio.limits.queued_jobs))

    @router.delete("/live/{page}", status_code=204, summary="Stop following the prompt of a page")
    def end(page: Id) -> None:
        """Cancel the job of a page that is closed. For a minute, no other job is taken from it."""
        now_s = time.monotonic()
        with lock:
            for one in [one for one, since_s in ended_s.items() if now_s - since_s > _ENDED_S]:
                del ended_s[one]
            ended_s[page] = now_s
            studio.jobs.end_live(page)


def _add_reading(router: APIRouter, studio: Studio) -> None:
    @router.get("/jobs", summary="List jobs")
    def listing(
        state: Literal["active", "finished", "done", "failed", "cancelled"] = "active",
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MOST_PER_PAGE)] = 60,
    ) -> dict[str, Any]:
        """Return running and waiting jobs in their order, or a page of finished ones, newest first."""
        if state == "active":
            return {"jobs": queue_view(studio, studio.jobs.waiting(), time.time()), "next": None}
        page = studio.jobs.finished(None if state == "finished" else state, read_cursor(after), limit)
        last = page[-1] if len(page) == limit else None
        cursor = None if last is None else write_cursor(last.finished_s or 0.0, last.id)
        return {"jobs": [job_view(job) for job in page], "next": cursor}

    @router.get("/jobs/{job}", summary="Get a job")
    def get(job: str) -> dict[str, Any]:
        return _view(studio, _found(studio, job))

    @router.get("/jobs/{job}/preview", summary="Animated preview of a running job", response_class=_WebP)
    def preview(job: str) -> Response:
        # Read at once: the file is replaced while the job runs, and its size with it.
        try:
            content = studio.folder.preview(job).read_bytes() if is_id(job) else None
        except FileNotFoundError:
            content = None
        if content is None:
            raise not_found("preview of the job", job)
        return _WebP(content, headers={"Cache-Control": "no-store"})


def _add_changes(router: APIRouter, studio: Studio) -> None:
    @router.put("/jobs/{job}", summary="Edit a waiting job")
    def edit(job: str, request: JobRequest) -> dict[str, Any]:
        _found(studio, job)
        check_request(request, studio.library(), studio.limits)
        return _view(studio, studio.jobs.edit(job, request.with_seed().stored()))

    @router.delete("/jobs/{job}", summary="Cancel a job, or remove a finished one from the list")
    def delete(job: str) -> dict[str, Any]:
        """Cancel a waiting job at once and a running one at its next step. The videos of a finished job stay."""
        if _found(studio, job).state in ("queued", "running"):
            return _view(studio, studio.jobs.cancel(job))
        view_before = job_view(_found(studio, job))
        studio.jobs.remove(job)
        return view_before

    @router.post("/jobs/{job}/retry", summary="Run a failed or cancelled job again")
    def retry(job: str) -> dict[str, Any]:
        """Put a job at the end of the queue. One that is still being cancelled continues."""
        _found(studio, job)
        return _view(studio, studio.jobs.retry(job, most_queued=studio.limits.queued_jobs))

    @router.post("/jobs/{job}/move", summary="Move a waiting job")
    def move(job: str, place: MoveRequest) -> dict[str, Any]:
        _found(studio, job)
        return _view(studio, studio.jobs.move(job, place.before))


def _add_queue(router: APIRouter, studio: Studio, workers: Workers | None) -> None:
    @router.get("/queue", summary="State of the queue")
    def queue() -> dict[str, Any]:
        reason = studio.jobs.flag("paused")
        missing = max(0, studio.limits.disk_free_bytes - studio.folder.free_bytes())
        return {
            "paused": reason is not None,
            "reason": reason,
            "message": None if reason is None else _message(reason, missing),
            "missing_bytes": missing,
            "waiting": studio.jobs.num_waiting(),
            "worker": workers is not None and workers.is_alive,
        }

    @router.post("/queue/pause", summary="Start no further job")
    def pause() -> dict[str, Any]:
        studio.jobs.set_flag("paused", "user")
        return queue()

    @router.post("/queue/resume", summary="Continue with the next job")
    def resume() -> dict[str, Any]:
        studio.jobs.set_flag("paused", None)
        return queue()


def _add_estimate(router: APIRouter, studio: Studio, workers: Workers | None) -> None:
    @router.post("/estimate", summary="Memory and time of a request")
    def estimate(request: JobRequest) -> dict[str, Any]:
        """Return `needed_bytes`, `available_bytes` and `seconds`, each null if unknown; queues nothing."""
        check_request(request, studio.library(), studio.limits)
        seconds = studio.videos.typical_seconds(workload_of(request))
        memory = None if workers is None else workers.estimate(request.stored())
        unknown: dict[str, Any] = {"needed_bytes": None, "available_bytes": None, "fits": None, "suggestions": []}
        return {**(memory or unknown), "seconds": None if seconds is None else seconds * request.num_videos}


def _message(reason: str, missing_bytes: int) -> str:
    return PAUSE_REASONS.get(reason, reason).format(missing=max(1, -(-missing_bytes // 2**20)))


def _seed_of(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
