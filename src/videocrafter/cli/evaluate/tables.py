"""The report of `videocrafter evaluate` on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from videocrafter.evaluation.report_page import ASPECTS, difference_text, interval, number

_ARROWS = {"higher": "↑", "lower": "↓", "neither": " "}


def print_report(report: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the scores by aspect, then what is missing and what went wrong."""
    console = console or Console()
    protocol, differences = report["protocol"], report.get("differences") or {}
    console.print(
        f"{report['videos']['count']} videos, {report['videos']['prompts']} prompts; protocol "
        f"{protocol['name']} {protocol['sha256'][:12]}",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("metric", "", "score", "95 % interval", *(("difference",) if differences else ())):
        table.add_column(heading, justify="right" if heading == "score" else "left")
    for aspect, heading in ASPECTS.items():
        scores = {name: score for name, score in report["scores"].items() if score["aspect"] == aspect}
        if scores:
            table.add_row(f"[bold]{heading}[/bold]")
        for name, score in scores.items():
            cells = [f"  {name}", _ARROWS[score["better"]], number(score["value"]), interval(score)]
            table.add_row(*cells, *((difference_text(differences.get(name)),) if differences else ()))
    console.print(table)
    for name, value in report["totals"].items():
        console.print(f"total {name}: {number(value) or 'a score is missing'}", highlight=False)
    if report["missing"]:
        names = ", ".join(one["metric"] for one in report["missing"])
        console.print(f"Not computed, because files are missing: {names}. The page lists them.", highlight=False)
    for line in _reasons(report):
        console.print(escape(line), highlight=False)
    for warning in report["warnings"]:
        console.print(escape(f"Note: {warning}"), highlight=False)
    if report["problems"]:
        first = report["problems"][0]["message"]
        rest = len(report["problems"]) - 1
        more = f"; {rest} more in the report" if rest else ""
        console.print(escape(f"Problems: {first}{more}"), highlight=False)


def _reasons(report: Mapping[str, Any]) -> list[str]:
    """Return one line for each reason why values are missing, with the metrics that share it."""
    metrics: dict[tuple[str, int], list[str]] = {}
    for name, counts in report["not_measured"].items():
        for reason, count in counts.items():
            metrics.setdefault((reason, count), []).append(name)
    return [
        f"No value{f' for {count} videos' if count > 1 else ''}: {reason} ({', '.join(names)})"
        for (reason, count), names in metrics.items()
    ]
