"""Write the report of stills: report.json and a contact sheet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from videocrafter.evaluation.exam.stills import Still, StillsScore
from videocrafter.media.atomic_write import write_all
from videocrafter.media.contact_sheet import contact_sheet
from videocrafter.media.output_checks import check_writable
from videocrafter.media.video_encoding import encode_png

REPORT, SHEET = "report.json", "stills.png"
_COLUMNS = 8


def check_stills_folder(output: Path, *, overwrite: bool) -> None:
    """Create the folder and check that a report can be written there.

    Raises:
        OutputExistsError: the folder contains a report and ``overwrite`` is false.
        MediaError: the folder cannot be written.
    """
    check_writable(output / REPORT, overwrite=overwrite)


def write_stills_report(
    output: Path, score: StillsScore, shown: Sequence[Still], identity: Mapping[str, Any]
) -> None:
    """Write both files or none, replacing those of an earlier report.

    Args:
        shown: the first stills, for the contact sheet.
        identity: what was examined by which judge.
    """
    answers = [dict(zip(("name", "asked", "seen"), answer, strict=True)) for answer in score.answers]
    report = {**identity, "recognised": asdict(score.recognised), "stills": answers}
    rows = [range(start, min(start + _COLUMNS, len(shown))) for start in range(0, len(shown), _COLUMNS)]
    pictures = [_side_by_side([shown[number] for number in row]) for row in rows]
    labels = [", ".join(_label(score.answers[number]) for number in row) for row in rows]
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    sheet = encode_png(contact_sheet(pictures, labels, scale=1))
    write_all({output / SHEET: sheet, output / REPORT: text.encode()}, overwrite=True)


def _side_by_side(stills: Sequence[Still]) -> np.ndarray:
    """Return stills as one video, each cut or padded to the size of the first."""
    height, width = stills[0].pixels.shape[:2]
    frames = np.zeros((len(stills), height, width, 3), np.uint8)
    for frame, still in zip(frames, stills, strict=True):
        part = still.pixels[:height, :width]
        frame[: part.shape[0], : part.shape[1]] = part
    return frames


def _label(answer: tuple[str, str, str]) -> str:
    _, asked, seen = answer
    return asked if asked == seen else f"{asked} [{seen}]"
