"""A whole preparation: plan, probe, scan, select, clip, caption, shard. The same call again continues it."""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol

from videocrafter.media.atomic_write import write_all
from videocrafter.media.json_file import read_json_object
from videocrafter.preparation.caption.text_checks import boilerplate, problems
from videocrafter.preparation.config import PrepareConfig, fingerprint, result_settings, with_absolute_paths
from videocrafter.preparation.engines.supervisor import Outcome
from videocrafter.preparation.failures import UNSUITABLE, PreparationError
from videocrafter.preparation.history import RunHistory
from videocrafter.preparation.output_lock import clean, locked
from videocrafter.preparation.parquet_file import write_parquet
from videocrafter.preparation.plan import Plan, freeze, list_videos
from videocrafter.preparation.preconditions import check_inputs, check_settings, settings_file
from videocrafter.preparation.report.page import Report, write_report
from videocrafter.preparation.rows import Failure, Row, add_scores, clip_rows, scan_units, source_rows, thumbnails
from videocrafter.preparation.select import Selection, select
from videocrafter.preparation.shards import ShardPlan, plan_shards
from videocrafter.preparation.units import ChosenClip, Job, Unit, is_done
from videocrafter.preparation.work_files import canonical

EngineName = Literal["local", "ray"]
Progress = Callable[[str, int, int], None]

# Clips per unit: enough to open a video rarely, few enough to spread a long one over all processes.
_CLIPS_PER_UNIT = 16
_SHARD_NAME = re.compile(r"\d{6}\.tar")
# Details of a clip that are of no use to a trainer.
_NOT_IN_SHARDS = ("scan", "hashes", "reason", "kept", "copy_of", "bytes", "sha256", "shard")
_NOT_IN_MANIFEST = ("scan",)


class Engine(Protocol):
    """Does units somewhere, and starts processes when the first one arrives."""

    def run(self, units: Sequence[Unit], on_done: Callable[[Outcome], None]) -> None:
        """Do units in any order, calling `on_done` after each."""

    def close(self) -> None:
        """End the processes."""


@dataclass(kw_only=True)
class Summary:
    """Result of a run.

    Attributes:
        videos: number of source videos; `bad` of them cannot be used.
        clips, kept: pieces found, and pieces that the recipe keeps.
        in_shards: pieces in the shards; the others have no caption, or their files could not be written.
        hours: length of the pieces in the shards.
        shards: names of the shards.
        failures: number of videos and clips by reason.
        changed: videos that are no longer those of the plan.
    """

    videos: int = 0
    bad: int = 0
    clips: int = 0
    kept: int = 0
    in_shards: int = 0
    hours: float = 0.0
    shards: list[str] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Result of a dry run: nothing was written.

    Attributes:
        plan: all videos.
        num_bytes: size of the videos.
        waiting: videos that have not been scanned.
        selection: the recipe applied to those that have.
    """

    plan: Plan
    num_bytes: int
    waiting: int
    selection: Selection


def prepare(
    sources: Sequence[str],
    out: Path,
    config: PrepareConfig,
    *,
    engine: EngineName = "local",
    retry: frozenset[str] = frozenset(),
    accept_changed: bool = False,
    change_settings: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> Summary:
    """Turn videos into shards, or continue an earlier run in `out`.

    Args:
        sources: as for `plan.list_videos`.
        out: folder for everything that is written.
        engine: where units run; both give the same files.
        retry: reasons of failures to try again.
        accept_changed: whether videos that changed since the plan replace their earlier versions.
        change_settings: whether `config` may differ from that of earlier runs in `out`.
        progress: called with a stage, the number of finished units and their total.

    Raises:
        SourceError, PreparationError: the run cannot begin or continue, in one line.
        OutputError: the output cannot be written.
    """
    config = with_absolute_paths(config)
    check_settings(out, config, change_settings=change_settings)
    videos = list_videos(sources)
    check_inputs(sources, videos, out, config)
    with locked(out):
        write_all({out / "settings.json": settings_file(config)}, overwrite=True)
        plan = freeze(out, videos, accept_changed=accept_changed)
        clean(out)
        job = Job(out=out.resolve(), config=config, retry=retry)
        try:
            with closing(_engine(engine, job)) as running:
                return _Run(plan, job, running, progress).run()
        finally:
            shutil.rmtree(job.scratch, ignore_errors=True)


def preview(sources: Sequence[str], out: Path, config: PrepareConfig, *, accept_changed: bool = False) -> Preview:
    """Return what a run would do, and the recipe's choice among the videos scanned so far. Writes nothing."""
    plan = freeze(out, list_videos(sources), accept_changed=accept_changed, write=False)
    job = Job(out=out, config=with_absolute_paths(config))
    rows, _ = source_rows(plan.videos, job)
    units = scan_units(plan.videos, rows, config)
    clips, _ = clip_rows(units, rows, job)
    add_scores(clips, job)
    scans = job.files("scan")
    scanned = {unit.video.id for unit in units if unit.video and scans.path(unit.id).is_file()}
    unusable = {row["source"] for row in rows if row["reason"]}
    return Preview(
        plan=plan,
        num_bytes=sum(video.length or video.size for video in plan.videos),
        waiting=sum(video.id not in scanned | unusable for video in plan.videos),
        selection=select(clips, config.select, config.seed),
    )


def _engine(name: EngineName, job: Job) -> Engine:
    if name == "ray":
        from videocrafter.preparation.engines.ray_cluster import RayEngine

        return RayEngine(job)
    from videocrafter.preparation.engines.local import LocalEngine

    return LocalEngine(job)


class _Run:
    def __init__(self, plan: Plan, job: Job, engine: Engine, progress: Progress) -> None:
        self._plan, self._job, self._engine, self._progress = plan, job, engine, progress
        self._failures: list[Failure] = []
        self._times: dict[str, dict[str, float]] = {}

    def run(self) -> Summary:
        job, videos = self._job, self._plan.videos
        usable = [video for video in videos if not video.reason]
        self._do([Unit(stage="probe", id=video.id, video=video) for video in usable])
        sources, failures = source_rows(videos, job)
        self._check_share_of_bad(failures)
        units = scan_units(videos, sources, job.config)
        self._do(units)
        clips, scan_failures = clip_rows(units, sources, job)
        self._check_share_of_bad(failures + scan_failures)
        self._failures = failures + scan_failures
        if job.config.score.is_used:
            self._do(self._units_of_clips("score", clips))
            self._failures += add_scores(clips, job)
        selection = select(clips, job.config.select, job.config.seed)
        chosen = [row for row in selection.rows if row["kept"]]
        self._write_clips(chosen)
        self._caption([row for row in chosen if row.get("sha256")])
        self._mark_captions(chosen)
        plans = self._shard([row for row in chosen if row.get("sha256") and row["caption_short"]])
        shards = [self._result("shard", plan.id) for plan in plans]
        self._write_tables(sources, selection, shards)
        summary = self._summary(selection, shards)
        self._finish(selection, sources, shards, summary)
        return summary

    def _do(self, units: Sequence[Unit]) -> None:
        """Do the units that have no result yet."""
        if not units:
            return
        stage, job = units[0].stage, self._job
        files = job.files(stage)
        todo = [unit for unit in units if not is_done(unit, files, job.retry)]
        started = time.monotonic()
        done, seconds = len(units) - len(todo), 0.0
        self._progress(stage, done, len(units))

        def on_done(outcome: Outcome) -> None:
            nonlocal done, seconds
            done, seconds = done + 1, seconds + outcome.seconds
            self._progress(stage, done, len(units))

        if todo:
            self._engine.run(todo, on_done)
        self._times[stage] = {
            "units": len(todo),
            "found": len(units) - len(todo),
            "seconds": time.monotonic() - started,
            "process_seconds": seconds,
        }

    def _write_clips(self, chosen: list[Row]) -> None:
        self._do(self._units_of_clips("clip", chosen))
        files = self._job.files("clip")
        for row in chosen:
            result = files.read(row["id"]) or {}
            if "ok" in result:
                row.update(result["ok"])
            elif "failed" in result:
                row["problem"] = result["failed"]["reason"]
                self._failures.append(Failure(source=row["source"], name=row["name"], **result["failed"]))

    def _caption(self, chosen: list[Row]) -> None:
        config = self._job.config.caption
        if not (config.url or config.model):
            return
        asked = [row for row in chosen if row["caption_from"] != "given"]
        self._do(self._units_of_clips("caption", asked))
        files = self._job.files("caption")
        for row in asked:
            result = files.read(row["id"]) or {}
            if "ok" in result:
                row.update(result["ok"], caption_from="model")
            elif "failed" in result:
                # A given text is better than none.
                if row["caption_from"] != "text":
                    row["problem"] = result["failed"]["reason"]
                self._failures.append(Failure(source=row["source"], name=row["name"], **result["failed"]))

    def _units_of_clips(self, stage: str, rows: Sequence[Row]) -> list[Unit]:
        videos = {video.id: video for video in self._plan.videos}
        by_source: dict[str, list[Row]] = {}
        for row in rows:
            by_source.setdefault(row["source"], []).append(row)
        return [
            Unit(
                stage=stage,
                id=part[0]["id"],
                # Encoding takes a multiple of decoding.
                length_s=10 * sum(row["seconds"] for row in part),
                video=videos[source],
                clips=tuple(
                    ChosenClip(id=row["id"], start_s=row["start_s"], end_s=row["end_s"], crop=tuple(row["crop"]))
                    for row in part
                ),
            )
            for source, group in by_source.items()
            for part in (group[first : first + _CLIPS_PER_UNIT] for first in range(0, len(group), _CLIPS_PER_UNIT))
        ]

    def _mark_captions(self, chosen: list[Row]) -> None:
        repeated = boilerplate(row["caption_short"] for row in chosen if row["caption_from"] != "text")
        for row in chosen:
            caption = row["caption_short"]
            if not caption and not row.get("problem"):
                row["problem"] = "no_caption"
            found = problems(caption) + (["boilerplate"] if caption in repeated else [])
            row["caption_flags"] = " ".join(found)

    def _shard(self, rows: list[Row]) -> list[ShardPlan]:
        config = self._job.config
        plans = []
        for folder, split in (("shards", "train"), ("validation", "validation")):
            described = [
                {name: value for name, value in row.items() if name not in _NOT_IN_SHARDS or name == "bytes"}
                for row in rows
                if row["split"] == split
            ]
            plans += plan_shards(folder, described, config.shard, config.seed)
        self._forget_other_shards(plans)
        size_of = {row["id"]: row["bytes"] for row in rows}
        self._do(
            [
                Unit(stage="shard", id=plan.id, shard=plan, bytes=sum(size_of[name] for name, _, _ in plan.clips))
                for plan in plans
            ]
        )
        shard_of = {name: plan.name for plan in plans for name, _, _ in plan.clips}
        for row in rows:
            row["shard"] = shard_of[row["id"]]
        return plans

    def _forget_other_shards(self, plans: Sequence[ShardPlan]) -> None:
        """Make results of shards agree with the tar files, which have the same names whatever they contain."""
        out, files = self._job.out, self._job.files("shard")
        current = {files.path(plan.id): out / plan.name for plan in plans}
        for path in files.root.glob("*/*.json"):
            tar = current.get(path)
            size = read_json_object(path).get("ok", {}).get("bytes")
            if tar is None or not tar.is_file() or tar.stat().st_size != size:
                path.unlink()
        names = set(current.values())
        tars = [tar for folder in ("shards", "validation") for tar in (out / folder).glob("*.tar")]
        others = [tar for tar in tars if _SHARD_NAME.fullmatch(tar.name) and tar not in names]
        if others or not all(files.is_done(plan.id, retry=self._job.retry) for plan in plans):
            # The data set as a whole is not what dataset.json says until it is written again.
            (out / "dataset.json").unlink(missing_ok=True)
        for tar in others:
            tar.unlink()

    def _result(self, stage: str, unit: str) -> dict[str, Any]:
        result = self._job.files(stage).read(unit) or {}
        if "ok" not in result:
            message = result.get("failed", {}).get("message", "it has no result")
            raise PreparationError(f"{stage} {unit} failed: {message}")
        found: dict[str, Any] = result["ok"]
        return found

    def _check_share_of_bad(self, failures: Sequence[Failure]) -> None:
        """Stop if so many sources are bad that something else is wrong, such as a disk that is not mounted."""
        bad = {one.source for one in failures if one.reason not in UNSUITABLE}
        total, limits = len(self._plan.videos), self._job.config.limits
        if total >= limits.min_judged and len(bad) > limits.max_bad * total:
            reasons = Counter(one.reason for one in failures if one.reason not in UNSUITABLE)
            example = next(one.message for one in failures if one.reason not in UNSUITABLE)
            counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
            raise PreparationError(
                f"{len(bad)} of {total} videos are bad ({counts}), such as: {example}. Fix them, or allow more with "
                "--set limits.max_bad=1"
            )

    def _write_tables(self, sources: list[Row], selection: Selection, shards: list[dict[str, Any]]) -> None:
        out = self._job.out
        columns = dict.fromkeys(name for row in selection.rows for name in row if name not in _NOT_IN_MANIFEST)
        write_parquet(out / "manifest.parquet", [{name: row.get(name) for name in columns} for row in selection.rows])
        write_parquet(out / "sources.parquet", sources)
        write_parquet(out / "shards.parquet", shards)
        failures = sorted({(one.source, one.name, one.reason, one.message) for one in self._failures})
        names = ("source", "name", "reason", "message")
        write_parquet(out / "failures.parquet", [dict(zip(names, one, strict=True)) for one in failures])

    def _summary(self, selection: Selection, shards: list[dict[str, Any]]) -> Summary:
        inside = [row for row in selection.rows if row.get("shard")]
        return Summary(
            videos=len(self._plan.videos),
            bad=len({one.source for one in self._failures}),
            clips=len(selection.rows),
            kept=sum(row["kept"] for row in selection.rows),
            in_shards=len(inside),
            hours=sum(row["seconds"] for row in inside) / 3600,
            shards=[shard["name"] for shard in shards],
            failures=Counter(one.reason for one in self._failures)
            + Counter("no_caption" for row in selection.rows if row.get("problem") == "no_caption"),
            changed=self._plan.changed,
        )

    def _finish(
        self, selection: Selection, sources: list[Row], shards: list[dict[str, Any]], summary: Summary
    ) -> None:
        job = self._job
        history = RunHistory(job.out / "work" / "runs.jsonl")
        # The same scan has many of the pictures that a report shows.
        pictures = lru_cache(maxsize=32)(partial(thumbnails, job.files("scan")))
        history.add({"engine": type(self._engine).__name__, "stages": self._times})
        write_report(
            job.out / "report.html",
            Report(
                selection=selection,
                sources=sources,
                failures=self._failures,
                runs=history.read(),
                in_shards=summary.in_shards,
                thumbnail=lambda row: pictures(row["scan"])[row["id"]],
            ),
        )
        content = {
            "settings": result_settings(job.config),
            "versions": {name: version(name) for name in ("videocrafter", "av", "numpy", "pyarrow")},
            "plan": fingerprint([video.id for video in self._plan.videos]),
            "videos": summary.videos,
            "clips": summary.in_shards,
            "hours": summary.hours,
            "filters": [asdict(step) for step in selection.steps],
            "shards": shards,
        }
        write_all({job.out / "dataset.json": canonical(content)}, overwrite=True)
