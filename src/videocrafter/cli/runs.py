"""`videocrafter runs`: compare training runs in a table and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videocrafter.cli.errors import bad_input

if TYPE_CHECKING:
    from videocrafter.training.comparison import RunSummary


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("runs")(runs_command)


def runs_command(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or one that holds several.")],
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help="Shown beside loss: gauge_motion, grad_norm … Repeatable."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw the (first) metric: PNG, SVG or PDF.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a plot that is there.")] = False,
) -> None:
    """Compare runs: where each stands, what it has seen, how fast it is, and its metrics."""
    from rich.console import Console

    from videocrafter.training.comparison import find_runs, plot_runs

    with bad_input():
        runs = find_runs(folder)
        names = [_full_name(runs, name) for name in metric or ["loss"]]
        Console().print(_table(runs, names))
        if plot is not None:
            if plot.exists() and not overwrite:
                raise ValueError(f"{plot} exists; give another name, or --overwrite to replace it")
            plot_runs(runs, names[0], plot)
            typer.echo(f"{plot}: {names[0]}")


def _full_name(runs: list[RunSummary], name: str) -> str:
    """Validation metrics may be given without their "validation/"."""
    known = sorted({known for run in runs for known in run.curves})
    for candidate in (name, f"validation/{name}"):
        if candidate in known:
            return candidate
    raise ValueError(f"no run has logged {name!r}; there is {', '.join(known) or 'nothing yet'}")


def _table(runs: list[RunSummary], metrics: list[str]) -> object:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("stage")
    for name in ("step", "samples", "hours", "samples/s", *metrics):
        table.add_column(name, justify="right")
    for run in runs:
        stage = "finished" if run.finished else run.stage
        cells = [run.name, stage, f"{run.step}/{run.num_steps}", f"{run.samples:,}"]
        cells += [f"{run.seconds / 3600:.2f}", f"{run.samples_per_s:.1f}"]
        table.add_row(*cells, *(_value(run.latest(name)) for name in metrics))
    return table


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
