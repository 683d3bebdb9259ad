"""The files of a report: report.json, report.html and measurements.jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from videocrafter.evaluation.report_page import report_page
from videocrafter.evaluation.results import MEASUREMENTS, REPORT
from videocrafter.media.atomic_write import Content, parts_folder, write_all
from videocrafter.media.output_checks import check_writable

PAGE = "report.html"


def check_report_files(output: Path, *, overwrite: bool) -> None:
    """Check, before hours of work, that a report can be written; creates the folder.

    Raises:
        OutputExistsError: the folder contains a report and `overwrite` is false.
        MediaError: the folder cannot be written.
    """
    for name in (REPORT, PAGE, MEASUREMENTS):
        check_writable(output / name, overwrite=overwrite)


def write_report_files(output: Path, report: Mapping[str, Any], videos: Iterable[Mapping[str, Any]]) -> None:
    """Write all files or none, replacing those of an earlier report.

    Args:
        output: folder of the files.
        report: content of report.json.
        videos: the lines of measurements.jsonl; iterated twice, and held one at a time.

    Raises:
        MediaError: they cannot be written; earlier files are unchanged.
    """
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    with parts_folder(output) as parts:
        lines = parts / MEASUREMENTS
        with lines.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in videos)
        files: dict[Path, Content] = {
            output / MEASUREMENTS: lines,
            output / PAGE: report_page(report, videos).encode("utf-8", "xmlcharrefreplace"),
            output / REPORT: (text + "\n").encode("utf-8", "backslashreplace"),
        }
        write_all(files, overwrite=True)
