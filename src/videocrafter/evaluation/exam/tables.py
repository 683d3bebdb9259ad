"""The tables of an exam's report, as Markdown and as HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from videocrafter.evaluation.report_page import html_table

_ACCURACIES = {
    "subject": "subject_accuracy",
    "motion": "motion_accuracy",
    "scene": "scene_accuracy",
    "all three": "all_accuracy",
    "subject, second judge": "second_subject_accuracy",
}
_COLUMNS = {
    "model": "",
    "judge on real clips": "real_",
    "on reconstructions": "reconstructed_",
    "image to video, motion prompt": "i2v_",
    "image to video, full caption": "i2v_full_caption_",
}
_MEASURES = {
    "sharpness_ratio": "sharpness: variance of the Laplacian relative to real clips",
    "edge_energy_ratio": "sharpness: edge energy relative to real clips",
    "reconstructed_sharpness_ratio": "sharpness of reconstructions: variance of the Laplacian",
    "reconstructed_edge_energy_ratio": "sharpness of reconstructions: edge energy",
    "still_flicker": "flicker where nothing should move, in grey levels",
    "reconstructed_still_flicker": "flicker of reconstructions, in grey levels",
    "frechet_video_distance": "Fréchet distance to real clips, judge's logits",
    "real_frechet_video_distance": "the same between two sets of real clips",
    "speed_correlation": "speed: correlation of measured and expected displacement per frame",
    "speed_correlation_in_asked_direction": "speed: the same along the asked direction",
    "speed_correlation_with_1_over_fps": "speed: correlation with 1 / fps",
    "speed_correlation_with_fps": "speed: correlation with fps",
    "speed_ratio_median": "speed: measured / expected, median",
    "real_speed_correlation_by_judge": "speed on real clips: correlation (judge's centres)",
    "real_speed_correlation_by_difference": "speed on real clips: correlation (difference from the background)",
    "i2v_image_distance": "image to video: distance of the first frame to the given image",
    "i2v_shuffled_distance": "image to video: the same to other images",
    "i2v_image_dissimilarity": "image to video: 1 - SSIM to the given image",
    "i2v_shuffled_dissimilarity": "image to video: the same to other images",
    "variety": "variety: distance between seeds",
    "real_variety": "variety: the same between real clips",
}
_NUM_CONFUSIONS = 12


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of texts. All columns but the first are numbers."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> list[str]:
        """Return the lines of the table in Markdown."""
        heading = ["", f"## {self.title}"] if self.title else []
        lines = [self.heads, ["---", *["---:"] * (len(self.heads) - 1)], *self.rows]
        return [*heading, "", *(f"| {' | '.join(cells)} |" for cells in lines)]

    def html(self) -> str:
        """Return the table in HTML."""
        heads = [self.heads[0], *(f"#{head}" for head in self.heads[1:])]
        return html_table(heads, [[escape(cell) for cell in row] for row in self.rows], self.title)


def summary_tables(report: Mapping[str, Any]) -> list[Table]:
    """Return the accuracies and the other measures, with their intervals."""
    shown = {title: prefix for title, prefix in _COLUMNS.items() if f"{prefix}subject_accuracy" in report}
    accuracies = [
        [title, *(_score(report, prefix + key) for prefix in shown.values())]
        for title, key in _ACCURACIES.items()
        if any(prefix + key in report for prefix in shown.values())
    ]
    measures = [[title, _score(report, key)] for key, title in _MEASURES.items() if key in report]
    return [
        Table(title="", heads=["accuracy", *shown], rows=accuracies),
        Table(title="", heads=["measure", "value"], rows=measures),
    ]


def detail_tables(report: Mapping[str, Any]) -> Iterable[Table]:
    """Yield the accuracies per motion, subject, scene and speed."""
    for group, rows in report.get("per", {}).items():
        yield Table(
            title=f"Per {group}",
            heads=[group, "prompts", "subject", "motion", "scene", "all"],
            rows=[
                [name, str(row["count"]), *(_number(row[what], 2) for what in ("subject", "motion", "scene", "all"))]
                for name, row in rows.items()
            ],
        )


def remarks(report: Mapping[str, Any]) -> list[str]:
    """Return what else a reader should know, one line each."""
    lines = [f"Not measured: {name}: {reason}." for name, reason in report.get("not_measured", {}).items()]
    for what, pairs in report.get("confusions", {}).items():
        if pairs:
            listed = ", ".join(f"{asked} → {seen} ({count})" for asked, seen, count in pairs[:_NUM_CONFUSIONS])
            lines.append(f"Most frequent wrong {what}s (asked → seen): {listed}.")
    settings = report["settings"]
    lines.append("Intervals in brackets are 95 %, over prompts.")
    found = report.get("num_videos_found", 0)
    time = f", {found} of them from an earlier run" if found else f" in {report['seconds']:.0f} s"
    lines.append(f"{report['num_videos']} videos{time}, fps {settings['fps']:g}, exam seed {settings['seed']}.")
    return lines


def _score(report: Mapping[str, Any], key: str) -> str:
    """Return a score with three decimals and its interval in brackets."""
    if key not in report:
        return "–"
    interval = report.get("intervals", {}).get(key)
    if interval is None or interval["low"] is None or math.isnan(report[key]):
        return _number(report[key], 3)
    return f"{_number(report[key], 3)} ({_number(interval['low'], 3)} to {_number(interval['high'], 3)})"


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
