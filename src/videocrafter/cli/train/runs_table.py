"""Runs as a table, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from videocrafter.training.tracking.run_comparison import RunSummary

if TYPE_CHECKING:
    from rich.table import Table

_WIDE = 110


def full_name(runs: Sequence[RunSummary], name: str) -> str:
    """The name of a metric, which may be given without its "validation/".

    Raises:
        ValueError: no run has logged it.
    """
    known = sorted({known for run in runs for known in run.curves})
    for candidate in (name, f"validation/{name}"):
        if candidate in known:
            return candidate
    raise ValueError(f"no run has logged {name!r}; there is {', '.join(known) or 'nothing yet'}")


def usual_metrics(runs: Sequence[RunSummary]) -> list[str]:
    """What one looks at first: the loss, of clips and of images apart where it is, and that of the validation."""
    known = {name for run in runs for name in run.curves}
    apart = [*known & {"loss_clips", "loss_images"}]
    return [name for name in [*(sorted(apart) or ["loss"]), "validation/loss"] if name in known]


def runs_table(runs: Sequence[RunSummary], metrics: Sequence[str], *, width: int) -> Table:
    """One row for each run.

    Args:
        width: of the terminal; what is of less interest is left out of a narrow one.
    """
    from rich.table import Table

    known = {name for run in runs for name in run.curves}
    columns: list[tuple[str, list[str]]] = [("step", [f"{run.step}/{run.num_steps}" for run in runs])]
    if width >= _WIDE:
        columns.append(("samples", [f"{run.samples:,}" for run in runs]))
    columns.append(("hours", [f"{run.seconds / 3600:.2f}" for run in runs]))
    columns.append(("samples/s", [f"{run.samples_per_s:.1f}" for run in runs]))
    if "data_wait_share" in known:
        columns.append(("wait", [_percent(run.latest("data_wait_share")) for run in runs]))
    if "peak_memory_gib" in known:
        columns.append(("GiB", [_value(run.latest("peak_memory_gib"), 3) for run in runs]))
    columns += [(name, [_value(run.latest(name), 4) for run in runs]) for name in metrics]
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
    """A list of objects, with the newest value of these metrics or of all; null for what is no number."""
    rows = [
        {**_facts(run), "metrics": {name: _finite(run.latest(name)) for name in metrics or run.curves}}
        for run in runs
    ]
    return json.dumps(rows, indent=2)


def as_csv(runs: Sequence[RunSummary], metrics: Sequence[str] | None) -> str:
    """A line for each run, with the newest value of these metrics or of all; no column comes twice."""
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
        "samples_per_s": run.samples_per_s,
    }


def _broken(name: str) -> str:
    """A long heading on two lines."""
    for sign in "/_":
        head, found, tail = name.partition(sign)
        if found and tail != "s":
            return f"{head}{sign}\n{tail}"
    return name


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _value(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}g}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}%"
