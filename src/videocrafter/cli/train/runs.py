"""`videocrafter runs`: compare training runs in a table and a plot, or watch them train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videocrafter.cli.errors import bad_input


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("runs")(runs_command)


def runs_command(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or one that holds several.")],
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help="Shown instead of the losses: gauge_motion, grad_norm … Repeatable."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every other second until Ctrl-C; one run shows all of itself.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Also draw the metrics: PNG, SVG or PDF.")] = None,
    smooth: Annotated[
        float, typer.Option(help="In the plot: how much a running mean holds on to older values, 0 to 0.99.")
    ] = 0.0,
    json_: Annotated[
        bool, typer.Option("--json", help="Print JSON, with every metric or those of --metric.")
    ] = False,
    csv_: Annotated[bool, typer.Option("--csv", help="Print CSV, with every metric or those of --metric.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a plot that is there.")] = False,
) -> None:
    """Compare runs: where each stands, what it has seen, how fast it is, and its metrics."""
    with bad_input():
        if watch + json_ + csv_ > 1 or (watch and plot is not None):
            raise ValueError("--watch, --json and --csv exclude each other, and --watch draws no plot; give one")
        if not 0 <= smooth < 1:
            raise ValueError(f"--smooth {smooth:g} is no share; give a number from 0 to 0.99")
        if watch:
            _watch(folder, metric)
        else:
            _show(folder, metric, plot, smooth, overwrite, form="json" if json_ else "csv" if csv_ else "table")


def _watch(folder: Path, metrics: list[str] | None) -> None:
    from rich.console import Console

    from videocrafter.cli.train.runs_watch import watch

    console = Console()
    if not console.is_terminal:
        raise ValueError("--watch draws in a terminal, and this is none; leave it out")
    watch(folder, metrics, console)


def _show(
    folder: Path, metrics: list[str] | None, plot: Path | None, smooth: float, overwrite: bool, form: str
) -> None:
    from rich.console import Console

    from videocrafter.cli.train.runs_table import as_csv, as_json, full_name, runs_table, usual_metrics
    from videocrafter.training.tracking.run_comparison import find_runs
    from videocrafter.training.tracking.run_plots import plot_runs

    runs = find_runs(folder)
    chosen = [full_name(runs, name) for name in metrics] if metrics else None
    shown = usual_metrics(runs) if chosen is None else chosen
    if plot is not None and plot.exists() and not overwrite:
        raise ValueError(f"{plot} exists; give another name, or --overwrite to replace it")
    if form == "table":
        console = Console()
        console.print(runs_table(runs, shown, width=console.width))
    else:
        typer.echo((as_json if form == "json" else as_csv)(runs, chosen).rstrip("\n"))
    if plot is not None:
        plot_runs(runs, shown or ["loss"], plot, smooth=smooth)
        typer.echo(f"{plot}: {', '.join(shown)}", err=form != "table")
