"""Keep files and rows together: at the start after a crash, and once in a while."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from videocrafter.media.atomic_write import remove_leftovers
from videocrafter.media.errors import MediaError
from videocrafter.media.video_file import probe, read_metadata, sidecar_path
from videocrafter.web.data_folder import is_id, video_id
from videocrafter.web.job_request import request_of_recording
from videocrafter.web.store.videos import Video
from videocrafter.web.studio import Studio

_log = logging.getLogger(__name__)


def recover(studio: Studio) -> int:
    """Bring the folder in order before a worker starts; return the number of jobs that run again.

    Jobs that were running wait again in their old place. A finished file without a row, as after a crash or the loss
    of the database, returns to the gallery, unless its job makes it again. Previews, half-written files, uploads
    without a row and videos without a file are removed.
    """
    interrupted = studio.jobs.release()
    for name in ("videos", "posters", "previews", "uploads"):
        remove_leftovers(studio.folder.root / name)
    for path in (*(studio.folder.root / "previews").iterdir(), *studio.folder.uploads.glob(".*")):
        path.unlink(missing_ok=True)
    paths = {path.stem: path for path in (studio.folder.root / "videos").glob("*.mp4")}
    _remove_halves(studio, set(paths))
    known = studio.videos.ids()
    for job in studio.jobs.waiting():
        known |= {video_id(job.id, number) for number in range(int(job.request.get("num_videos", 1)))}
    for name in sorted(paths.keys() - known):
        if is_id(name):
            _adopt(studio, paths[name])
    return interrupted


def _remove_halves(studio: Studio, video_files: set[str]) -> None:
    """Remove files of uploads without a row, and rows of videos without a file."""
    # If no row has its file, a disk or the database is missing, and may come back.
    uploads, files = studio.uploads.ids(), {path.stem: path for path in studio.folder.uploads.iterdir()}
    if uploads & files.keys():
        for name in filter(is_id, files.keys() - uploads):
            files[name].unlink()
    videos = studio.videos.ids()
    if videos & video_files:
        remove_videos(studio, sorted(videos - video_files))


def _adopt(studio: Studio, path: Path) -> None:
    """Return a file to the gallery by its recording; leave it alone if it has none."""
    try:
        recording, info = read_metadata(path), probe(path)
        request, _ = request_of_recording(recording, studio.library(), lambda setting, sha256: None)
    except (MediaError, ValidationError, OSError) as error:
        _log.warning("%s has no recording of the studio (%s); it stays where it is", path.name, type(error).__name__)
        return
    video = Video(
        id=path.stem,
        job=path.stem,
        number=0,
        prompt=request.prompt,
        model=request.model,
        request=request.stored(),
        recording=recording,
        width=info.width,
        height=info.height,
        num_frames=info.num_frames,
        playback_fps=info.fps,
        num_bytes=path.stat().st_size,
        seconds=0.0,
        workload="",
    )
    studio.videos.adopt(video, path.stat().st_mtime)


def clean(studio: Studio) -> None:
    """Remove what was in the bin for long enough, old uploads without a use, and events that nobody will ask for."""
    remove_videos(studio, studio.videos.expired(studio.limits.bin_days))
    for upload in studio.uploads.unused(studio.limits.upload_days):
        # The row first: a job that is added meanwhile is then refused, and not left without its file.
        if studio.uploads.forget(upload.id):
            studio.folder.upload(upload.id, upload.suffix).unlink(missing_ok=True)
    studio.events.forget_old()


def remove_videos(studio: Studio, videos: Sequence[str]) -> None:
    """Remove videos for good: the files first, which makes room for the database on a full disk."""
    for video in videos:
        path = studio.folder.video(video)
        for file in (path, sidecar_path(path), studio.folder.poster(video)):
            file.unlink(missing_ok=True)
    if videos:
        studio.videos.forget(videos)
