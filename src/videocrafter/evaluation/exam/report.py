"""Write the report of an exam: report.json, tables, one line per answer, and contact sheets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videocrafter.evaluation.exam.clips import to_bytes
from videocrafter.evaluation.exam.parts import Part
from videocrafter.evaluation.exam.tables import detail_tables, remarks, summary_tables
from videocrafter.evaluation.report_page import html_page
from videocrafter.evaluation.results import without_nan
from videocrafter.media.atomic_write import write_all
from videocrafter.media.contact_sheet import contact_sheet, evenly_spaced
from videocrafter.media.output_checks import check_writable
from videocrafter.media.video_encoding import encode_png

REPORT, PAGE, TABLE, ANSWERS = "report.json", "report.html", "report.md", "answers.jsonl"
VIDEOS = "exam_videos"
"""Folder of the generated videos inside the output; other protocols keep theirs in `videos`."""

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
_SHOWN_FRAMES = 8


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
        PAGE: page(report, files).encode("utf-8", "xmlcharrefreplace"),
        ANSWERS: ("\n".join(lines) + "\n").encode(),
        TABLE: markdown(report).encode(),
        REPORT: (json.dumps(without_nan(report), indent=1) + "\n").encode(),
    }
    write_all({output / name: content for name, content in files.items()}, overwrite=True)
    for name in set(_SHEETS) - set(files):
        (output / name).unlink(missing_ok=True)


def summary(report: Mapping[str, Any]) -> str:
    """Format the scores and remarks as Markdown."""
    lines = [line for table in summary_tables(report) for line in table.markdown()]
    return "\n".join([*lines, *(text for remark in remarks(report) for text in ("", remark))]) + "\n"


def markdown(report: Mapping[str, Any]) -> str:
    """Format the report as Markdown."""
    details = [line for table in detail_tables(report) for line in table.markdown()]
    return "\n".join(["# Exam", summary(report), *details]) + "\n"


def page(report: Mapping[str, Any], sheets: Iterable[str]) -> str:
    """Format the report as an HTML page that shows the contact sheets next to it."""
    protocol = report["protocol"]
    parts = [
        f"<p>Version {protocol['version']}, hash <code>{protocol['sha256']}</code>.</p>",
        *(table.html() for table in summary_tables(report)),
        *(f"<p>{escape(remark)}</p>" for remark in remarks(report)),
        *(table.html() for table in detail_tables(report)),
        *(
            f'<h2>{escape(name)}</h2><div class="scroll"><img src="{escape(name)}" alt="{escape(name)}"></div>'
            for name in sheets
        ),
    ]
    return html_page("Exam", parts)


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
            **({} if answers.second is None else {"seen_by_second": answers.second[index]}),
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
        video = evenly_spaced(to_bytes(part.videos[index : index + 1][0]), _SHOWN_FRAMES)
        if part.images is not None:
            video = np.concatenate((to_bytes(part.images[index][None]), video))
        videos.append(video)
    scale = 1 if videos[0].shape[1] >= 48 else 2
    yield name, contact_sheet(videos, [_caption(part, index) for index in chosen], scale=scale)


def _caption(part: Part, index: int) -> str:
    question, verdicts = part.questions[index], part.verdicts
    asked = (question.script.subject, question.script.motion, question.script.scene)
    seen = (verdicts.subjects[index], verdicts.motions[index], verdicts.scenes[index])
    mistakes = [s for a, s in zip(asked, seen, strict=True) if a != s]
    return f"fps {question.script.fps:g}: {question.prompt}" + (
        f"  [seen: {', '.join(mistakes)}]" if mistakes else ""
    )
