"""Videos and their files by id, for routes."""

from __future__ import annotations

from pathlib import Path

from videocrafter.web.problems import not_found
from videocrafter.web.store.videos import Video
from videocrafter.web.studio import Studio

FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
"""Headers of what never changes under its address."""


def found_video(studio: Studio, video: str) -> Video:
    """Return a video. Raises Problem 404."""
    try:
        return studio.videos.get(video)
    except KeyError as error:
        raise not_found("video", video) from error


def existing_file(path: Path, identity: str) -> Path:
    """Return the path of a file. Raises Problem 404 if it is gone."""
    if not path.is_file():
        raise not_found("file of", identity)
    return path
