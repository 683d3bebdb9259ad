"""Keep files and rows together: at the start after a crash, and once in a while."""

from __future__ import annotations

import logging
from pathlib import Path

from videocrafter.media.atomic_write import remove_leftovers
from videocrafter.media.video_file import sidecar_path
from videocrafter.web.data_folder import is_id
from videocrafter.web.studio import Studio

_log = logging.getLogger(__name__)


def recover(studio: Studio) -> int:
    """Bring the folder in order before a worker starts; return the number of jobs that run again.

    Jobs that were running wait again in their old place. Files without a row belong to videos that were not finished
    completely: their job makes them again. Previews and half-written files are removed.
    """
    interrupted = studio.jobs.release()
    for name in ("videos", "posters", "previews", "uploads"):
        remove_leftovers(studio.folder.root / name)
    for path in (*(studio.folder.root / "previews").iterdir(), *studio.folder.uploads.glob(".*")):
        path.unlink(missing_ok=True)
    known = studio.videos.ids()
    for video in sorted(known):
        if not studio.folder.video(video).is_file():
            _log.warning("the video %s has lost its file and leaves the gallery", video)
            studio.videos.forget([video])
    for path in (studio.folder.root / "videos").glob("*.mp4"):
        if is_id(path.stem) and path.stem not in known:
            _remove_files(studio, path.stem)
    clean(studio)
    return interrupted


def clean(studio: Studio) -> None:
    """Remove what was in the bin for long enough, and events that nobody will ask for."""
    expired = studio.videos.expired(studio.limits.bin_days)
    for video in expired:
        _remove_files(studio, video)
    if expired:
        studio.videos.forget(expired)
    studio.events.forget_old()


def _remove_files(studio: Studio, video: str) -> None:
    path: Path = studio.folder.video(video)
    for file in (path, sidecar_path(path), studio.folder.poster(video)):
        file.unlink(missing_ok=True)
