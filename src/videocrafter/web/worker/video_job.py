"""Make the videos of one job, and report progress and previews to the database."""

from __future__ import annotations

import contextlib
import gc
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from videocrafter.generation.errors import GenerationCancelled, GenerationError
from videocrafter.generation.run import PreparedRun, generate, load, prepare
from videocrafter.generation.watcher import SamplingStep, Watcher, WrittenVideo
from videocrafter.media.atomic_write import write_all
from videocrafter.presets import resolve_model
from videocrafter.web.data_folder import video_id
from videocrafter.web.job_request import JobRequest, generate_options, workload_of
from videocrafter.web.store.database import patiently
from videocrafter.web.store.jobs import Job, State
from videocrafter.web.store.videos import Video
from videocrafter.web.studio import Studio
from videocrafter.web.worker.animation import encode_webp

if TYPE_CHECKING:
    from videocrafter.generation.mode import Pipeline
    from videocrafter.pipelines.preview import LatentPreview

_PREVIEW_INTERVAL_S = 0.5


@dataclass
class LoadedModel:
    """The pipeline of the last job, for the next one."""

    key: tuple[object, ...] = ()
    pipeline: Pipeline | None = None
    preview: LatentPreview | None = None

    def load(self, prepared: PreparedRun, watcher: Watcher) -> Pipeline:
        """Return the pipeline of a run, loading it unless it is the last one."""
        key = prepared.pipeline_key
        if self.pipeline is None or self.key != key:
            self.drop()
            self.pipeline, self.key = load(prepared, watcher), key
        return self.pipeline

    def drop(self) -> None:
        """Free the memory."""
        self.key, self.pipeline, self.preview = (), None, None
        # Networks are in reference cycles, and the next model needs their memory.
        gc.collect()


class JobWatcher(Watcher):
    """Follows the run of one video of a job."""

    def __init__(self, studio: Studio, job: Job, request: JobRequest, owner: str, model: LoadedModel) -> None:
        super().__init__()
        self.studio, self.job, self.request, self.owner, self.model = studio, job, request, owner, model
        self.number = 0
        self.notes: list[str] = []
        self._stored_notes = [*job.notes]
        self._previews = 0
        self._reported_s = -np.inf
        self._start_s = time.monotonic()

    def start(self, number: int) -> None:
        """Video `number` of the job comes next."""
        self.number = number
        self._start_s = time.monotonic()

    def note(self, text: str) -> None:
        """Keep a note for the page."""
        if text not in self.notes:
            self.notes.append(text)

    def begin(self, pipeline: Any, total: int) -> None:
        """Fit the preview once per model."""
        from videocrafter.pipelines.preview import LatentPreview

        if self.model.preview is None:
            self.model.preview = LatentPreview.fit(pipeline.vae)
        self._report(0, total)

    def after_step(self, step: SamplingStep) -> None:
        """Report the progress, and write the preview, at most twice per second."""
        if time.monotonic() - self._reported_s < _PREVIEW_INTERVAL_S and step.done < step.total:
            return
        if self.model.preview is not None:
            frames = self.model.preview.frames(step.estimate)[0]
            animation = encode_webp(frames, step.batch.fps[0])
            # A preview is a convenience: a full disk must not end the job before its video needs the space.
            with contextlib.suppress(OSError):
                write_all({self.studio.folder.preview(self.job.id): animation}, overwrite=True)
                self._previews += 1
        self._report(step.done, step.total)

    def _report(self, done: int, total: int) -> None:
        self._reported_s = time.monotonic()
        # The next report replaces one that the database did not take.
        with contextlib.suppress(sqlite3.OperationalError):
            self.studio.jobs.progress(
                self.job.id,
                self.owner,
                step=self.number * total + done,
                num_steps=self.request.num_videos * total,
                preview=self._previews,
                # Notes change rarely, and each change makes the pages read all lists.
                notes=() if self.notes == self._stored_notes else self.notes,
            )
            self._stored_notes = [*self.notes]

    def written(self, video: WrittenVideo) -> None:
        """Add the finished video to the gallery."""
        frames, recording = video.frames, dict(video.recording)
        identity = video.path.stem
        poster = encode_webp(frames[len(frames) // 2][None], 1)
        write_all({self.studio.folder.poster(identity): poster}, overwrite=True)
        row = Video(
            id=identity,
            job=self.job.id,
            number=self.number,
            prompt=self.request.prompt,
            model=self.request.model,
            request={**self.request.stored(), "seed": recording["seed"], "num_videos": 1},
            recording=recording,
            width=frames.shape[2],
            height=frames.shape[1],
            num_frames=len(frames),
            playback_fps=recording["playback_fps"],
            num_bytes=video.path.stat().st_size,
            seconds=time.monotonic() - self._start_s,
            workload=workload_of(self.request),
            live=self.job.live is not None,
        )
        patiently(lambda: self.studio.videos.add(row, self.owner))

    def is_cancelled(self) -> bool:
        """Whether the user cancelled, or the job is no longer this worker's."""
        return patiently(lambda: self.studio.jobs.should_stop(self.job.id, self.owner))


def run_job(studio: Studio, job: Job, owner: str, model: LoadedModel, device: str) -> None:
    """Make the videos of a job that do not exist yet, and end the job. Raises only for bugs and a lost database."""
    try:
        _make_videos(studio, job, owner, model, device)
    except GenerationCancelled:
        finish(studio, job, owner, "cancelled")
    except GenerationError as error:
        details: dict[str, Any] = {"code": error.code, "message": _for_the_page(str(error), studio.folder.root)}
        details["suggestions"] = getattr(error, "suggestions", [])
        if error.code == "not-finite":
            details["message"] += "; set dtype to float32, or lower the guidance scale"
        finish(studio, job, owner, "failed", details)
    except OSError as error:
        model.drop()
        message = f"{error.strerror or error}; see the server's log, then retry"
        details = {"code": "file-error", "message": _for_the_page(message, studio.folder.root)}
        finish(studio, job, owner, "failed", details)
    else:
        finish(studio, job, owner, "done")
    finally:
        studio.folder.preview(job.id).unlink(missing_ok=True)


def _make_videos(studio: Studio, job: Job, owner: str, model: LoadedModel, device: str) -> None:
    request = JobRequest.model_validate(job.request)
    watcher = JobWatcher(studio, job, request, owner, model)
    present = studio.videos.numbers_of(job.id)
    for number in range(request.num_videos):
        if number in present:
            continue
        watcher.stop_if_cancelled()
        watcher.start(number)
        output = studio.folder.video(video_id(job.id, number))
        options = generate_options(request, studio.library(), output, number=number, device=device)
        # Models by name are those that are installed: a page never starts a download.
        prepared = prepare(options, obtain=resolve_model)
        generate(prepared, model.load(prepared, watcher), watcher)


def finish(studio: Studio, job: Job, owner: str, state: State, error: dict[str, Any] | None = None) -> None:
    """End a job when the database takes it, and pause the queue after equal failures."""
    mine = patiently(lambda: studio.jobs.finish(job.id, owner, state, error))
    if mine and state == "failed" and job.live is None:
        patiently(lambda: studio.jobs.pause_after_equal_failures(studio.limits.equal_failures))


def _for_the_page(message: str, root: Path) -> str:
    without = message.replace(f"{root.resolve()}/", "").replace(f"{root}/", "")
    return without.replace("set `device`", "start the studio with --devices set")
