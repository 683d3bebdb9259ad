"""Write the report of an exam: report.json, a Markdown table, one line per answer, and contact sheets."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from videocrafter.evaluation.exam.parts import Part
from videocrafter.evaluation.results import without_nan
from videocrafter.media.atomic_write import write_all
from videocrafter.media.contact_sheet import contact_sheet
from videocrafter.media.output_checks import check_writable
from videocrafter.media.video_encoding import encode_png

REPORT, TABLE, ANSWERS = "report.json", "report.md", "answers.jsonl"
_SHEETS = (
    "right.png",
    "wrong_subject.png",
    "wrong_motion.png",
    "wrong_scene.png",
    "speed.png",
    "variety.png",
    "i2v_right.png",
    "i2v_wrong.png",
)
_ROWS = 60
_SAMPLE = 24

Rows = Sequence[tuple[str, str]]
_ACCURACIES: Rows = (
    ("subject", "subject_accuracy"),
    ("motion", "motion_accuracy"),
    ("scene", "scene_accuracy"),
    ("all three", "all_accuracy"),
)
_OTHERS: Rows = (
    ("speed: correlation of measured and expected displacement per frame", "speed_correlation"),
    ("speed: the same along the asked direction", "speed_correlation_in_asked_direction"),
    ("speed: correlation with 1 / fps", "speed_correlation_with_1_over_fps"),
    ("speed: correlation with fps", "speed_correlation_with_fps"),
    ("speed: measured / expected, median", "speed_ratio_median"),
    ("speed on real clips: correlation (judge's centres)", "real_speed_correlation_by_judge"),
    (
        "speed on real clips: correlation (difference from the background)",
        "real_speed_correlation_by_difference",
    ),
    ("image to video: distance of the first frame to the given image", "i2v_image_distance"),
    ("image to video: the same to other images", "i2v_shuffled_distance"),
    ("image to video: 1 - SSIM to the given image", "i2v_image_dissimilarity"),
    ("image to video: the same to other images", "i2v_shuffled_dissimilarity"),
    ("variety: distance between seeds", "variety"),
    ("variety: the same between real clips", "real_variety"),
)


def check_report_folder(output: Path, *, overwrite: bool) -> Path:
    """Create the folder and check, before hours of work, that a report can be written there.

    Raises:
        OutputExistsError: the folder contains a report and ``overwrite`` is false.
        MediaError: the folder cannot be written.
    """
    check_writable(output / REPORT, overwrite=overwrite)
    return output


def write_report(output: Path, report: Mapping[str, Any], parts: Mapping[str, Part], *, copies: int) -> None:
    """Write all files or none, replacing those of an earlier exam.

    Args:
        output: folder returned by ``check_report_folder``.
        report: content of report.json.
        parts: the exam's parts by name.
        copies: number of seeds per prompt in the part "variety".
    """
    lines = [json.dumps(answer) for part, one in parts.items() for answer in _answers(part, one)]
    files = {name: encode_png(sheet) for name, sheet in _sheets(parts, copies)}
    files |= {
        ANSWERS: ("\n".join(lines) + "\n").encode(),
        TABLE: markdown(report).encode(),
        REPORT: (json.dumps(without_nan(report), indent=1) + "\n").encode(),
    }
    write_all({output / name: content for name, content in files.items()}, overwrite=True)
    for name in set(_SHEETS) - set(files):
        (output / name).unlink(missing_ok=True)


def markdown(report: Mapping[str, Any]) -> str:
    """Format the report as Markdown tables."""
    lines = ["# Exam", "", *_accuracy_table(report), "", *_value_table(report)]
    for group, rows in report.get("per", {}).items():
        lines += ["", f"## Per {group}", "", f"| {group} | prompts | subject | motion | scene | all |"]
        lines.append("|---|---:|---:|---:|---:|---:|")
        for name, row in rows.items():
            cells = " | ".join(_number(row[what], 2) for what in ("subject", "motion", "scene", "all"))
            lines.append(f"| {name} | {row['count']} | {cells} |")
    for what, pairs in report.get("confusions", {}).items():
        if pairs:
            listed = ", ".join(f"{asked} → {seen} ({count})" for asked, seen, count in pairs[:12])
            lines += ["", f"Most frequent wrong {what}s (asked → seen): {listed}."]
    lines += [
        "",
        f"{report['num_videos']} videos in {report['seconds']:.0f} s, "
        f"fps {report['settings']['fps']:g}, exam seed {report['settings']['seed']}.",
    ]
    return "\n".join(lines) + "\n"


def _accuracy_table(report: Mapping[str, Any]) -> Iterable[str]:
    columns = {
        "model": "",
        "judge on real clips": "real_",
        "on reconstructions": "reconstructed_",
        "image to video, motion prompt": "i2v_",
        "image to video, full caption": "i2v_full_caption_",
    }
    shown = {title: prefix for title, prefix in columns.items() if f"{prefix}subject_accuracy" in report}
    yield f"| accuracy | {' | '.join(shown)} |"
    yield f"|---|{'---:|' * len(shown)}"
    for title, key in _ACCURACIES:
        cells = (
            f"{_number(report[prefix + key], 3)} ± {_number(report[prefix + key + '_standard_error'], 3)}"
            for prefix in shown.values()
        )
        yield f"| {title} | {' | '.join(cells)} |"


def _value_table(report: Mapping[str, Any]) -> Iterable[str]:
    yield "| measure | value |"
    yield "|---|---:|"
    for title, key in _OTHERS:
        if key in report:
            yield f"| {title} | {_number(report[key], 3)} |"


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _answers(part: str, answers: Part) -> Iterable[dict[str, Any]]:
    """Yield one record per video."""
    for index, question in enumerate(answers.questions):
        script, verdicts = question.script, answers.verdicts
        yield {
            "part": part,
            "prompt": question.prompt,
            "seed": question.seed,
            "fps": script.fps,
            "speed": script.speed,
            "asked": [script.subject, script.motion, script.scene],
            "seen": [verdicts.subjects[index], verdicts.motions[index], verdicts.scenes[index]],
        }


def _sheets(parts: Mapping[str, Part], copies: int) -> Iterable[tuple[str, NDArray[np.uint8]]]:
    """Yield (file name, picture) of every sheet that is not empty."""
    if (part := parts.get("text")) is not None:
        yield from _sheet("right.png", part, _where(part.marks.all)[:_SAMPLE])
        for what in ("subject", "motion", "scene"):
            wrong = [index for index, right in enumerate(getattr(part.marks, what)) if not right]
            yield from _sheet(f"wrong_{what}.png", part, wrong)
    if (part := parts.get("speed")) is not None:
        in_order = _by_fps(part)
        yield from _sheet("speed.png", part, in_order[:: max(1, len(in_order) // _SAMPLE)])
    if (part := parts.get("variety")) is not None:
        yield from _sheet("variety.png", part, list(range(min(len(part.questions), copies * 6))))
    if (part := parts.get("i2v")) is not None:
        yield from _sheet("i2v_right.png", part, _where(part.marks.all)[:_SAMPLE])
        wrong = [index for index, right in enumerate(part.marks.all) if not right]
        yield from _sheet("i2v_wrong.png", part, wrong)


def _by_fps(part: Part) -> list[int]:
    return sorted(range(len(part.questions)), key=lambda index: part.questions[index].script.fps)


def _where(marks: Sequence[bool]) -> list[int]:
    return [index for index, right in enumerate(marks) if right]


def _sheet(name: str, part: Part, chosen: Sequence[int]) -> Iterable[tuple[str, NDArray[np.uint8]]]:
    """Yield one sheet of at most 60 videos, or nothing if none was chosen. A given image precedes its video."""
    chosen = chosen[:_ROWS]
    if not chosen:
        return
    videos = []
    for index in chosen:
        video = to_bytes(part.videos[index])
        if part.images is not None:
            video = np.concatenate((to_bytes(part.images[index][None]), video))
        videos.append(video)
    yield (
        name,
        contact_sheet(
            videos, [_caption(part, index) for index in chosen], scale=1 if videos[0].shape[1] >= 48 else 2
        ),
    )


def _caption(part: Part, index: int) -> str:
    question, verdicts = part.questions[index], part.verdicts
    asked = (question.script.subject, question.script.motion, question.script.scene)
    seen = (verdicts.subjects[index], verdicts.motions[index], verdicts.scenes[index])
    mistakes = [s for a, s in zip(asked, seen, strict=True) if a != s]
    return f"fps {question.script.fps:g}: {question.prompt}" + (
        f"  [seen: {', '.join(mistakes)}]" if mistakes else ""
    )


def to_bytes(frames: Tensor) -> NDArray[np.uint8]:
    """Convert float frames [T, 3, H, W] in [-1, 1] to uint8 [T, H, W, 3]."""
    pixels = ((frames.clamp(-1.0, 1.0) + 1.0) * 127.5).round().permute(0, 2, 3, 1)
    return np.asarray(pixels.cpu().numpy(), dtype=np.uint8)
