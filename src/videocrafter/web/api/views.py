"""The JSON forms of jobs, videos and uploads."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from videocrafter.web.job_request import JobRequest, workload_of
from videocrafter.web.problems import Problem
from videocrafter.web.store.jobs import Job
from videocrafter.web.store.uploads import Upload
from videocrafter.web.store.videos import Video
from videocrafter.web.studio import Studio

MOST_PER_PAGE = 200
"""Items of one page of a list."""


def job_view(job: Job, *, position: int | None = None, seconds_left: float | None = None) -> dict[str, Any]:
    """Return a job as JSON.

    Args:
        position: jobs that come before it; None unless it waits.
        seconds_left: until it is finished; None if unknown.
    """
    return {
        "id": job.id,
        "state": job.state,
        "request": dict(job.request),
        "videos": list(job.videos),
        "position": position,
        "seconds_left": None if seconds_left is None else round(seconds_left, 1),
        "step": job.step,
        "num_steps": job.num_steps,
        "preview": job.preview,
        "cancel_requested": job.cancel_requested,
        "attempts": job.attempts,
        "created_s": job.created_s,
        "started_s": job.started_s,
        "finished_s": job.finished_s,
        "notes": [*_attempt_note(job), *job.notes],
        "error": None if job.error is None else dict(job.error),
    }


def _attempt_note(job: Job) -> list[str]:
    interrupted = job.attempts - (job.state == "running")
    if job.state not in ("queued", "running") or interrupted < 1:
        return []
    return ["This job was interrupted and runs again. Its seed is the same, so its video will be."]


def queue_view(studio: Studio, jobs: Sequence[Job], now_s: float) -> list[dict[str, Any]]:
    """Return waiting and running jobs as JSON, with the time until each is finished.

    Args:
        now_s: seconds since 1970.
    """
    views = []
    free_s: list[float] | None = [0.0] * len(studio.config.devices)
    known: dict[str, float | None] = {}
    position = 0
    for job in jobs:
        workload = workload_of(JobRequest.model_validate(job.request))
        if workload not in known:
            known[workload] = studio.videos.typical_seconds(workload)
        own = _seconds(job, known[workload], now_s)
        # Each job goes to the worker that is free first; nothing is known after a job of unknown length.
        end = None if free_s is None or own is None else heapq.heappop(free_s) + own
        if free_s is not None and end is not None:
            heapq.heappush(free_s, end)
        else:
            free_s = None
        waits = job.state == "queued"
        views.append(job_view(job, position=position if waits else None, seconds_left=end))
        position += waits
    return views


def _seconds(job: Job, typical: float | None, now_s: float) -> float | None:
    if job.state == "running" and job.step and job.started_s is not None:
        return max(0.0, (now_s - job.started_s) / job.step * (job.num_steps - job.step))
    videos = int(job.request.get("num_videos", 1)) - len(job.videos)
    return None if typical is None else typical * videos


def video_view(video: Video) -> dict[str, Any]:
    """Return a video as JSON."""
    base = f"/api/v1/videos/{video.id}"
    names = ("id", "job", "prompt", "model", "width", "height", "num_frames", "playback_fps", "num_bytes", "starred")
    return {
        **{name: getattr(video, name) for name in names},
        "request": dict(video.request),
        "created_s": video.created_s,
        "seconds": round(video.seconds, 2),
        "deleted": video.deleted_s is not None,
        "links": {
            "mp4": f"{base}.mp4",
            "gif": f"{base}.gif",
            "poster": f"{base}/poster",
            "frames": f"{base}/frames.zip",
            "recording": f"{base}/recording",
        },
    }


def upload_view(upload: Upload) -> dict[str, Any]:
    """Return an upload as JSON."""
    names = ("id", "kind", "width", "height", "num_bytes")
    return {**{name: getattr(upload, name) for name in names}, "link": f"/api/v1/uploads/{upload.id}"}


def write_cursor(time_s: float, identity: str) -> str:
    """Return the text that continues a list after an item."""
    return f"{time_s!r}:{identity}"


def read_cursor(text: str | None) -> tuple[float, str] | None:
    """Return the time and id of a cursor. Raises Problem 422 for one that this API did not write."""
    if text is None:
        return None
    time_s, _, identity = text.partition(":")
    try:
        return float(time_s), identity
    except ValueError as error:
        raise Problem(
            422, "invalid-cursor", "after is not a cursor of this list; use `next` of its last page"
        ) from error
