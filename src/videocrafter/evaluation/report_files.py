"""The files of a report: report.json, report.html and measurements.jsonl."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from videocrafter.evaluation.paired import lines_of
from videocrafter.evaluation.report_page import report_page
from videocrafter.evaluation.results import MEASUREMENTS, REPORT
from videocrafter.media.atomic_write import write_all
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


def write_report_files(output: Path, report: Mapping[str, Any], videos: Sequence[Mapping[str, Any]]) -> None:
    """Write all files or none, replacing those of an earlier report.

    Raises:
        MediaError: they cannot be written; earlier files are unchanged.
    """
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    files = {
        output / MEASUREMENTS: lines_of(videos),
        output / PAGE: report_page(report, videos).encode("utf-8", "xmlcharrefreplace"),
        output / REPORT: (text + "\n").encode("utf-8", "backslashreplace"),
    }
    write_all(files, overwrite=True)
