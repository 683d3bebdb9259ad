"""Comparison of runs as a table, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from videocrafter.training.tracking.log_keys import LOG_KEYS
from videocrafter.training.tracking.run_comparison import RunSummary

if TYPE_CHECKING:
    from rich.table import Table

_WIDE = 110


def full_name(runs: Sequence[RunSummary], name: str) -> str:
    """Return the full name of a metric whose "validation/" prefix may be omitted.

    Raises:
        ValueError: no run has logged it.
    """
    known = sorted({known for run in runs for known in run.curves})
    for candidate in (name, f"validation/{name}"):
        if candidate in known:
            return candidate
    raise ValueError(f"no run has logged {name!r}; known metrics: {', '.join(known) or 'none yet'}")


def usual_metrics(runs: Sequence[RunSummary]) -> list[str]:
    """Return the default metrics: the loss, per clips and images if logged, and the validation loss."""
    known = {name for run in runs for name in run.curves}
    by_kind = sorted(known & {"loss_clips", "loss_images"})
    return [name for name in [*(by_kind or ["loss"]), "validation/loss"] if name in known]


def runs_table(runs: Sequence[RunSummary], metrics: Sequence[str], *, width: int) -> Table:
    """Build a table with one row per run.

    Args:
        width: of the terminal; a narrow one gets fewer columns.
    """
    from rich.table import Table

    known = {name for run in runs for name in run.curves}
    columns: list[tuple[str, list[str]]] = [("step", [f"{run.step}/{run.num_steps}" for run in runs])]
    if width >= _WIDE:
        columns.append(("samples", [f"{run.samples:,}" for run in runs]))
    columns.append(("hours", [f"{run.seconds / 3600:.2f}" for run in runs]))
    columns += [
        (key.heading, [_cell(run.latest(key.name), key.format) for run in runs])
        for key in LOG_KEYS.values()
        if key.heading is not None and key.name in known
    ]
    columns += [(name, [_cell(run.latest(name), "{:.4g}".format) for run in runs]) for name in metrics]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0) if width >= _WIDE else (0, 1, 0, 0))
    table.add_column("run", overflow="fold")
    table.add_column("stage")
    for name, _ in columns:
        table.add_column(_broken(name), justify="right", vertical="bottom")
    for index, run in enumerate(runs):
        stage = "finished" if run.finished else run.stage
        table.add_row(run.name, stage, *(cells[index] for _, cells in columns))
    return table


def as_json(runs: Sequence[RunSummary], metrics: Sequence[str] | None) -> str:
    """Return a JSON list of runs with the newest value of the given metrics, or of all; NaN becomes null."""
    rows = [
        {**_facts(run), "metrics": {name: _finite(run.latest(name)) for name in metrics or run.curves}}
        for run in runs
    ]
    return json.dumps(rows, indent=2)


def as_csv(runs: Sequence[RunSummary], metrics: Sequence[str] | None) -> str:
    """Return one CSV line per run with the newest value of the given metrics, or of all."""
    facts = [_facts(run) for run in runs]
    wanted = metrics or sorted({name for run in runs for name in run.curves})
    names = [name for name in dict.fromkeys(wanted) if name not in facts[0]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*facts[0], *names])
    for run, values in zip(runs, facts, strict=True):
        cells = [run.latest(name) for name in names]
        writer.writerow([*values.values(), *("" if cell is None else cell for cell in cells)])
    return text.getvalue()


def _facts(run: RunSummary) -> dict[str, Any]:
    return {
        "run": run.name,
        "recipe": run.recipe,
        "stage": run.stage,
        "step": run.step,
        "num_steps": run.num_steps,
        "finished": run.finished,
        "samples": run.samples,
        "seconds": run.seconds,
        "samples_per_s": _finite(run.latest("samples_per_s")) or 0.0,
    }


def _broken(name: str) -> str:
    """Break a long heading into two lines."""
    for sign in "/_":
        head, found, tail = name.partition(sign)
        if found and tail != "s":
            return f"{head}{sign}\n{tail}"
    return name


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _cell(value: float | None, form: Callable[[float], str]) -> str:
    return "–" if value is None else form(value)
