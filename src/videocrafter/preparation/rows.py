"""Rows of the manifest: sources and clips as the committed results of probe and scan describe them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from videocrafter.preparation.config import PrepareConfig, SourceLimits, fingerprint
from videocrafter.preparation.plan import PlannedVideo, Segment
from videocrafter.preparation.scan.pieces import given_end_s
from videocrafter.preparation.units import Job, Unit
from videocrafter.preparation.work_files import WorkFiles

Row = dict[str, Any]

_SAME_TIME_S = 1e-3


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A source, or a window of one, that cannot be used."""

    source: str
    name: str
    reason: str
    message: str


def source_rows(videos: Sequence[PlannedVideo], job: Job) -> tuple[list[Row], list[Failure]]:
    """Return the probed properties of every source, and those that cannot be used."""
    rows, failures, files = [], [], job.files("probe")
    for video in videos:
        row: Row = {"source": video.id, "name": video.name, "url": video.url, "bytes": video.length or video.size}
        result = (
            {"failed": {"reason": video.reason, "message": video.problem}} if video.reason else files.read(video.id)
        )
        if result is None:
            continue
        reason, message = "", ""
        if "failed" in result:
            reason, message = result["failed"]["reason"], result["failed"]["message"]
        else:
            row.update(result["ok"])
            reason, message = _unsuitable(row, job.config.sources)
        row["reason"], row["message"] = reason, message
        rows.append(row)
        if not reason and video.problem:
            failures.append(Failure(source=video.id, name=video.name, reason=video.note, message=video.problem))
        if reason:
            failures.append(Failure(source=video.id, name=video.name, reason=reason, message=message))
    return rows, failures


def scan_units(videos: Sequence[PlannedVideo], sources: Sequence[Row], config: PrepareConfig) -> list[Unit]:
    """Return the windows of the usable videos. A video with given clips has only the windows in which one begins."""
    planned = {video.id: video for video in videos}
    units = []
    for row in sources:
        if row["reason"]:
            continue
        video, duration_s = planned[row["source"]], row["duration_s"]
        count = max(1, math.ceil(duration_s / config.scan.window_s - 0.25))
        for number in range(count):
            start_s = number * config.scan.window_s
            end_s = (number + 1) * config.scan.window_s if number + 1 < count else None
            segments = tuple(
                one for one in video.segments if start_s <= one.start_s < (math.inf if end_s is None else end_s)
            )
            if video.segments and not segments:
                continue
            if segments:
                start_s = min(one.start_s for one in segments)
                end_s = max(given_end_s(one, config.scan) for one in segments)
            length_s = (duration_s if end_s is None else min(end_s, duration_s)) - start_s
            units.append(
                Unit(
                    stage="scan",
                    id=f"{video.id}-{number:03d}" + _of_segments(segments),
                    length_s=max(0.0, length_s),
                    video=video,
                    window=(start_s, end_s),
                    segments=segments,
                )
            )
    return units


def clip_rows(units: Sequence[Unit], sources: Sequence[Row], job: Job) -> tuple[list[Row], list[Failure]]:
    """Return every piece of the scanned windows with its scores, and what failed.

    Ids are unique: of equal clips that a source lists several times, the first one stays.
    """
    found: dict[str, Row] = {}
    failures, files = [], job.files("scan")
    by_source = {row["source"]: row for row in sources}
    before: list[Row] = []
    for unit in units:
        assert unit.video is not None
        result = files.read(unit.id)
        if result is None:
            continue
        if "failed" in result:
            failures.append(Failure(source=unit.video.id, name=unit.video.name, **result["failed"]))
            continue
        source, video = by_source[unit.video.id], unit.video
        failures += [
            Failure(source=video.id, name=video.name, reason="no_such_clip", message=problem)
            for problem in result["ok"]["problems"]
        ]
        rows = [_clip_row(piece, unit, source, job.config) for piece in result["ok"]["pieces"]]
        if not unit.segments:
            _continue_shot(before, rows)
            before = rows
        for row in rows:
            first = found.setdefault(row["id"], row)
            if first is not row:
                times = f"{row['start_s']:.3f} to {row['end_s']:.3f} s"
                message = f"{video.name}: the clip from {times} is listed again, with the caption {row['caption']!r}"
                failures.append(Failure(source=video.id, name=video.name, reason="duplicate", message=message))
    return list(found.values()), failures


def add_scores(clips: Sequence[Row], job: Job) -> list[Failure]:
    """Add the scores by networks to the rows of clips, and return what failed."""
    failures, files = [], job.files("score")
    for row in clips if job.config.score.is_used else ():
        result = files.read(row["id"]) or {}
        row.update(result.get("ok", {}))
        if "failed" in result:
            failures.append(Failure(source=row["source"], name=row["name"], **result["failed"]))
    return failures


def thumbnails(scans: WorkFiles, unit: str) -> dict[str, str]:
    """Return the small pictures of a unit's clips by id, as JPEGs in base 64; all of a run may fill the memory."""
    result = scans.read(unit)
    assert result is not None
    return {piece["id"]: str(piece["thumbnail"]) for piece in result["ok"]["pieces"]}


def _continue_shot(before: Sequence[Row], rows: Sequence[Row]) -> None:
    """Give the first shot of a window the label of the last one before it, if that one ends where it starts."""
    if not before or not rows or before[-1]["source"] != rows[0]["source"]:
        return
    if abs(rows[0]["start_s"] - before[-1]["end_s"]) < _SAME_TIME_S:
        shot = rows[0]["shot"]
        for row in rows:
            if row["shot"] == shot:
                row["shot"] = before[-1]["shot"]


def _clip_row(piece: Mapping[str, Any], unit: Unit, source: Row, config: PrepareConfig) -> Row:
    video = unit.video
    assert video is not None
    caption = piece["caption"] or video.caption
    origin = "given" if caption else "text" if config.caption.text else ""
    return {
        **{name: value for name, value in piece.items() if name != "thumbnail"},
        "source": video.id,
        "name": video.name,
        "scan": unit.id,
        # Shots are counted within their window.
        "shot": f"{unit.id}-{piece['shot']}",
        "seconds": piece["end_s"] - piece["start_s"],
        "fps": source["fps"],
        "source_width": source["width"],
        "source_height": source["height"],
        "codec": source["codec"],
        "bits_per_pixel": source["bits_per_pixel"],
        "caption_short": caption or config.caption.text or "",
        "caption_dense": "",
        "caption_from": origin,
    }


def _of_segments(segments: Sequence[Segment]) -> str:
    """Return a part of a name that depends on given clips; empty without any."""
    return f"-{fingerprint([asdict(segment) for segment in segments])}" if segments else ""


def _unsuitable(row: Row, limits: SourceLimits) -> tuple[str, str]:
    sides = sorted((row["height"], row["width"]))
    fps, name = row["fps"], row["name"]
    if row["duration_s"] < limits.min_duration_s:
        return "too_short", f"{name} lasts {row['duration_s']:.3g} s"
    if fps < limits.min_fps:
        return "too_slow_rate", f"{name} has {fps:.3g} frames per second"
    if fps > limits.max_fps:
        return "too_fast_rate", f"{name} has {fps:.3g} frames per second"
    if sides[0] < limits.min_side:
        return "too_small", f"{name} has {row['width']}x{row['height']} pixels"
    if sides[1] > limits.max_aspect * sides[0]:
        return "odd_aspect", f"{name} has {row['width']}x{row['height']} pixels"
    return "", ""
