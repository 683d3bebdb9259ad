"""Limits of the studio: of its queue, uploads, disk and connections. Each can be set with `--limit NAME=VALUE`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Largest allowed numbers, except where the name says otherwise.

    Attributes:
        queued_jobs: jobs that wait.
        videos_per_job: videos of one job.
        prompt_length: characters of a prompt.
        loras_per_job: LoRAs of one job.
        image_bytes, image_pixels: of an uploaded image.
        clip_bytes, clip_seconds, clip_pixels: of an uploaded clip; pixels per frame.
        check_seconds: time to decode an uploaded file.
        stalled_seconds: time without data after which an upload ends.
        upload_days: days that an upload is kept which no job and no video names.
        uploads_at_once: files that are received and checked at the same time.
        body_bytes: of a request that is not an upload.
        disk_free_bytes: free space below which the queue pauses.
        event_streams: connections that receive events.
        logins_per_minute: attempts to sign in with a token.
        attempts: times that a job is started before it fails as interrupted.
        equal_failures: consecutive failures with the same reason after which the queue pauses.
        bin_days: days that deleted videos are kept.
    """

    queued_jobs: int = 200
    videos_per_job: int = 16
    prompt_length: int = 2000
    loras_per_job: int = 8
    image_bytes: int = 20 * _MIB
    image_pixels: int = 40_000_000
    clip_bytes: int = 200 * _MIB
    clip_seconds: int = 60
    clip_pixels: int = 9_000_000
    check_seconds: int = 30
    stalled_seconds: int = 30
    upload_days: int = 30
    uploads_at_once: int = 2
    body_bytes: int = _MIB
    disk_free_bytes: int = 2048 * _MIB
    event_streams: int = 200
    logins_per_minute: int = 5
    attempts: int = 3
    equal_failures: int = 3
    bin_days: int = 7


def parse_limits(texts: Sequence[str]) -> Limits:
    """Parse `NAME=VALUE` texts. Raises ValueError naming the text for an unknown name or a wrong value."""
    known = {one.name for one in fields(Limits)}
    changes = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if name not in known:
            raise ValueError(f"unknown limit {name!r}; known limits are {', '.join(sorted(known))}")
        if not separator or not value.isascii() or not value.isdigit():
            raise ValueError(f"the limit {text!r} must be NAME=VALUE with a whole number, such as {name}=100")
        changes[name] = int(value)
    return replace(Limits(), **changes)
