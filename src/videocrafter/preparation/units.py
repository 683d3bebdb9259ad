"""Units of work: what a process does with one of them, and where its result is committed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import av

from videocrafter.data.locations import is_remote
from videocrafter.preparation import clips
from videocrafter.preparation.caption.captioning import caption_clips, load_captioner
from videocrafter.preparation.config import CaptionConfig, PrepareConfig, fingerprint
from videocrafter.preparation.failures import UnitError
from videocrafter.preparation.fetched import fetched
from videocrafter.preparation.plan import PlannedVideo, Segment
from videocrafter.preparation.scan import scan as scanning
from videocrafter.preparation.scoring import scoring
from videocrafter.preparation.shards import ShardPlan, write_shard
from videocrafter.preparation.work_files import WorkFiles


@dataclass(frozen=True, kw_only=True)
class ChosenClip:
    """A selected piece of a video."""

    id: str
    start_s: float
    end_s: float
    crop: tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Work that one process does from beginning to end.

    Attributes:
        stage: probe, scan, score, clip, caption or shard.
        id: name of its result.
        length_s: length of the video that it has to read, for the time limit and the order.
        bytes: size of the shard that it writes, for the time limit.
        video: the video that it reads.
        window: start and end in seconds, for `scan`.
        segments: given pieces in the window, for `scan`.
        clips: for `score`, `clip` and `caption`.
        shard: for `shard`.
    """

    stage: str
    id: str
    length_s: float = 0.0
    bytes: int = 0
    video: PlannedVideo | None = None
    window: tuple[float, float | None] = (0.0, None)
    segments: tuple[Segment, ...] = ()
    clips: tuple[ChosenClip, ...] = ()
    shard: ShardPlan | None = None

    @property
    def transferred_bytes(self) -> int:
        """Bytes that it downloads, or reads and writes, besides decoding."""
        is_download = self.video is not None and is_remote(self.video.url)
        return self.bytes + (self.video.length or self.video.size if self.video and is_download else 0)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Properties that all units of a run have in common. Small, because it travels with every unit.

    Attributes:
        out: the output folder.
        config: all settings.
    """

    out: Path
    config: PrepareConfig
    retry: frozenset[str] = field(default_factory=frozenset)

    def files(self, stage: str) -> WorkFiles:
        """Return the results of a stage. Its settings include those of the stages that it builds on."""
        config = self.config
        scan = fingerprint(scanning.VERSION, asdict(config.scan))
        clip = fingerprint(scan, clips.VERSION, asdict(config.clip), av.__version__)
        score = fingerprint(scan, scoring.VERSION, asdict(config.score), scoring.pinned(config.score))
        settings = {
            "probe": fingerprint(scanning.VERSION),
            "scan": scan,
            "score": score,
            "clip": clip,
            "caption": fingerprint(scan, _asked(config.caption)),
            "shard": fingerprint(clip),
        }
        return WorkFiles(self.out / "work" / stage, settings[stage])

    @property
    def scratch(self) -> Path:
        """Folder for copies of remote videos."""
        return self.out / "work" / "scratch"


def is_done(unit: Unit, files: WorkFiles, retry: frozenset[str]) -> bool:
    """Return whether a unit needs no further work, by the results of its stage."""
    return all(files.is_done(name, retry=retry) for name in _names(unit))


def do_unit(unit: Unit, job: Job) -> None:
    """Do a unit and commit its result, or its failure.

    Raises:
        OutputError: the disk is full, or cannot be written.
    """
    _STAGES[unit.stage](unit, job)


def load_models(unit: Unit, job: Job) -> None:
    """Load what a unit needs and keeps for the next ones, which takes time that is not the unit's.

    Raises:
        UnitError: a network cannot be loaded.
    """
    if unit.stage == "score":
        scoring.load_scorers(job.config.score)
    if unit.stage == "caption":
        load_captioner(job.config.caption)


def fail_unit(unit: Unit, job: Job, error: UnitError) -> None:
    """Commit that a unit failed."""
    files = job.files(unit.stage)
    for name in _names(unit):
        if not files.is_done(name):
            files.commit_failure(name, error)


def _probe(unit: Unit, job: Job) -> None:
    files, video = job.files("probe"), _video(unit)
    try:
        with fetched(video, job.scratch, job.config.limits.copies_gib * 2**30) as source:
            files.commit(unit.id, scanning.probe(source, video.name))
    except UnitError as error:
        files.commit_failure(unit.id, error)


def _scan(unit: Unit, job: Job) -> None:
    files, video = job.files("scan"), _video(unit)
    try:
        with fetched(video, job.scratch, job.config.limits.copies_gib * 2**30) as source:
            start_s, end_s = unit.window
            result = scanning.scan(
                source,
                video.name,
                video.id,
                job.config.scan,
                start_s=start_s,
                end_s=end_s,
                segments=unit.segments,
            )
            files.commit(unit.id, result)
    except UnitError as error:
        files.commit_failure(unit.id, error)


def _score(unit: Unit, job: Job) -> None:
    files, video = job.files("score"), _video(unit)
    todo = [clip for clip in unit.clips if not files.is_done(clip.id, retry=job.retry)]
    parts = [(clip.id, clip.start_s, clip.end_s, clip.crop) for clip in todo]
    try:
        with fetched(video, job.scratch, job.config.limits.copies_gib * 2**30) as source:
            for name, result in scoring.score_clips(source, video.name, parts, job.config.score):
                if isinstance(result, UnitError):
                    files.commit_failure(name, result)
                else:
                    files.commit(name, {**result})
    except UnitError as error:
        for clip in todo:
            files.commit_failure(clip.id, error)


def _clip(unit: Unit, job: Job) -> None:
    files, video = job.files("clip"), _video(unit)
    todo = [clip for clip in unit.clips if not files.is_done(clip.id, retry=job.retry)]
    parts = [(clip.id, clip.start_s, clip.end_s, clip.crop) for clip in todo]
    try:
        with fetched(video, job.scratch, job.config.limits.copies_gib * 2**30) as source:
            for name, result in clips.write_clips(source, video.name, parts, job.config.clip):
                if isinstance(result, UnitError):
                    files.commit_failure(name, result)
                    continue
                data, facts = result
                # The file first: its description is the commit.
                files.commit_bytes(name, ".mp4", data)
                files.commit(name, {**facts, "sha256": hashlib.sha256(data).hexdigest()})
    except UnitError as error:
        for clip in todo:
            files.commit_failure(clip.id, error)


def _caption(unit: Unit, job: Job) -> None:
    files, clip_files = job.files("caption"), job.files("clip")
    todo = {
        clip.id: clip_files.path(clip.id, ".mp4")
        for clip in unit.clips
        if not files.is_done(clip.id, retry=job.retry)
    }
    for name, result in caption_clips(todo, job.config.caption):
        if isinstance(result, UnitError):
            files.commit_failure(name, result)
        else:
            # A model gives another text each time: the first one stays.
            files.commit(name, result, keep_first=True)


def _shard(unit: Unit, job: Job) -> None:
    assert unit.shard is not None
    job.files("shard").commit(unit.id, write_shard(unit.shard, job.out, job.files("clip")))


def _video(unit: Unit) -> PlannedVideo:
    assert unit.video is not None
    return unit.video


def _names(unit: Unit) -> list[str]:
    """Return the names of its results."""
    return [clip.id for clip in unit.clips] or [unit.id]


def _asked(config: CaptionConfig) -> dict[str, Any]:
    """Return the settings that a model's answer depends on. The same model answers at another address."""
    settings = {**asdict(config), "url": bool(config.url) if config.model else config.url}
    others = ("text", "concurrency", "tries", "key_variable")
    return {name: value for name, value in settings.items() if name not in others}


_STAGES: Mapping[str, Callable[[Unit, Job], None]] = {
    "probe": _probe,
    "scan": _scan,
    "score": _score,
    "clip": _clip,
    "caption": _caption,
    "shard": _shard,
}
