"""The page of a report: one HTML file without scripts, fonts or addresses of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import islice
from typing import Any

ASPECTS: Mapping[str, str] = {
    "visual_quality": "Visual quality",
    "text_video_alignment": "Text-video alignment",
    "motion_quality": "Motion quality",
    "temporal_consistency": "Temporal consistency",
    "image_conformity": "Image conformity",
    "distribution": "Distance to the reference set",
}
"""Aspects in the order of reports, with their headings."""

_ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
_MOST_ROWS = 1000
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #666; --bar: #3b82f6 }
@media (prefers-color-scheme: dark) { :root { --faint: #aaa } }
html { background: Canvas; color: CanvasText }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } tr { border-bottom: 1px solid var(--line) }
td, th { padding: .3rem .6rem; text-align: left; vertical-align: top }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
.faint { color: var(--faint); font-size: .9em } code { font-size: .9em; word-break: break-all }
.scroll { overflow-x: auto } svg { display: block }
"""


def report_page(report: Mapping[str, Any], videos: Iterable[Mapping[str, Any]]) -> str:
    """Return the page.

    Args:
        report: content of report.json.
        videos: the lines of measurements.jsonl, of which the page shows the first 1,000.
    """
    protocol = report["protocol"]
    title = f"Evaluation: {protocol['name']}"
    parts = [
        f"<p>{report['videos']['count']} videos, {report['videos']['prompts']} prompts. Protocol "
        f"{escape(protocol['name'])}, version {protocol['version']}, hash <code>{protocol['sha256']}</code>. "
        "Intervals are 95 %, over prompts.</p>",
        f"<p>Comparison hash <code>{report['comparison']['sha256']}</code>: protocol, measured prompts and reference "
        "set. Put scores next to each other only if their reports have the same one.</p>",
        *(f"<p><strong>Note:</strong> {escape(text)}.</p>" for text in report["warnings"]),
        *_score_tables(report),
        *_totals(report),
        *_missing(report),
        *_problems(report),
        *_video_table(report, list(islice(videos, _MOST_ROWS))),
        _table(("network", "SHA-256 of its weights"), report["networks"].items(), "Networks"),
        _table(("software", "version"), report["versions"].items(), "Versions"),
    ]
    return html_page(title, parts)


def html_page(title: str, parts: Iterable[str]) -> str:
    """Return a page of HTML parts below its title."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def number(value: float | None) -> str:
    """Return a number with four significant digits."""
    return "" if value is None else f"{value:.4g}"


def interval(score: Mapping[str, Any]) -> str:
    """Return "low to high" of a score; empty if there is no interval."""
    return "" if score["low"] is None else f"{number(score['low'])} to {number(score['high'])}"


def _score_tables(report: Mapping[str, Any]) -> list[str]:
    found = []
    differences = report.get("differences") or {}
    heads = ["metric", "#score", "95 % interval", "", "#prompts", "meaning"] + ["difference"] * bool(differences)
    for aspect, heading in ASPECTS.items():
        rows = [
            (
                f"{escape(name)} {_ARROWS[score['better']]}",
                number(score["value"]),
                interval(score),
                _bar(score),
                str(score["num_prompts"]),
                f'<span class="faint">{escape(score["summary"])}</span>',
                *((escape(difference_text(differences.get(name))),) if differences else ()),
            )
            for name, score in report["scores"].items()
            if score["aspect"] == aspect
        ]
        if rows:
            found.append(html_table(heads, rows, heading))
    return found


def difference_text(difference: Mapping[str, Any] | None) -> str:
    """Return a paired difference in words; empty without one."""
    if difference is None:
        return ""
    if "reason" in difference:
        return str(difference["reason"])
    return f"{difference['value']:+.4g} ({interval(difference)}): {difference['verdict']}"


def _bar(score: Mapping[str, Any]) -> str:
    """Return a drawing of the interval within the range from 0 to the larger of its end and 1."""
    if score["low"] is None:
        return ""
    least = min(0.0, score["low"])
    width = max(1.0, score["high"]) - least
    low, high, value = (120 * (score[key] - least) / width for key in ("low", "high", "value"))
    return (
        '<svg width="120" height="12" role="img" aria-label="interval"><line x1="0" x2="120" y1="6" y2="6" '
        f'stroke="var(--line)"/><line x1="{low:.1f}" x2="{max(high, low + 1):.1f}" y1="6" y2="6" stroke="var(--bar)" '
        f'stroke-width="4"/><circle cx="{value:.1f}" cy="6" r="3" fill="var(--bar)"/></svg>'
    )


def _totals(report: Mapping[str, Any]) -> list[str]:
    rows = [(name, number(value) or "a score is missing") for name, value in report["totals"].items()]
    found = [_table(("total of this protocol's version", "value"), rows, "Totals")] if rows else []
    if report["normalised"]:
        rows = [(name, number(value)) for name, value in report["normalised"].items()]
        found.append(_table(("metric", "scaled to the protocol's range"), rows, "Normalised scores"))
    return found


def _missing(report: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            escape(one["metric"]),
            "<br>".join(
                f"{escape(need['file'])}"
                + (f'<br><span class="faint">SHA-256 {escape(need["sha256"])}</span>' if "sha256" in need else "")
                + (f'<br><span class="faint">licence: {escape(need["licence"])}</span>' if "licence" in need else "")
                for need in one["needs"]
            ),
            f'<span class="faint">{escape(one["summary"])}</span>',
        )
        for one in report["missing"]
    ]
    return [html_table(("metric", "needs", "meaning"), rows, "Not computed: files are missing")] if rows else []


def _problems(report: Mapping[str, Any]) -> list[str]:
    reasons = [
        (name, f"{count} videos: {reason}" if count > 1 else reason)
        for name, counts in report["not_measured"].items()
        for reason, count in counts.items()
    ]
    found = [_table(("metric", "reason"), reasons, "Videos without a value")] if reasons else []
    rows = [(one["kind"].replace("_", " "), one["message"]) for one in report["problems"]]
    return [*found, *([_table(("problem", "details"), rows, "Problems")] if rows else [])]


def _video_table(report: Mapping[str, Any], videos: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [name for name in report["scores"] if any(name in line["values"] for line in videos)]
    rows = [
        (
            escape(line["name"]),
            escape(line["prompt"]),
            "" if line["seed"] is None else str(line["seed"]),
            *(number(line["values"].get(name)) for name in names),
        )
        for line in videos
    ]
    count = report["videos"]["count"]
    heading = f"Videos ({count})"
    if count > len(videos):
        heading = f"The first {len(videos)} of {count} videos; measurements.jsonl lists all"
    table = html_table(("video", "prompt", "seed", *(f"#{name}" for name in names)), rows)
    return [f"<details><summary>{heading}</summary>{table}</details>"]


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]], heading: str = "") -> str:
    return html_table(heads, [[escape(str(cell)) for cell in row] for row in rows], heading)


def html_table(heads: Sequence[str], rows: Sequence[Sequence[str]], heading: str = "") -> str:
    """Return a table of HTML cells. A heading that begins with # aligns its column as numbers."""
    classes = [' class="number"' if head.startswith("#") else "" for head in heads]
    head = "".join(f"<th{kind}>{escape(text.lstrip('#'))}</th>" for kind, text in zip(classes, heads, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(classes, row, strict=True)) + "</tr>"
        for row in rows
    )
    title = f"<h2>{escape(heading)}</h2>" if heading else ""
    # Focusable, so that a table that is wider than the screen scrolls by keyboard.
    scroll = f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(heading or "Videos")}">'
    return f"{title}{scroll}<table><tr>{head}</tr>{body}</table></div>"
