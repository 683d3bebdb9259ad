"""`videocrafter runs`: compare training runs in a table and a plot, or watch them train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videocrafter.cli.errors import bad_input

_PLOTS = (".png", ".svg", ".pdf")


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("runs")(runs_command)


def runs_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, or of several runs.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", "-m", help="Metric to show instead of the losses: gauge_motion, grad_norm … Repeatable."
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", metavar="", help="Refresh every 2 seconds until Ctrl-C. A single run gets the full live view."
        ),
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Also plot the metrics to a PNG, SVG or PDF file.")] = None,
    smooth: Annotated[
        float, typer.Option(help="Smoothing of the plot: weight of the moving average, 0 to 0.99.")
    ] = 0.0,
    json_: Annotated[
        bool, typer.Option("--json", metavar="", help="Print JSON with all metrics, or those of --metric.")
    ] = False,
    csv_: Annotated[
        bool, typer.Option("--csv", metavar="", help="Print CSV with all metrics, or those of --metric.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace an existing plot.")] = False,
) -> None:
    """Compare training runs: progress, training samples, speed and metrics."""
    with bad_input():
        if watch + json_ + csv_ > 1 or (watch and plot is not None):
            raise ValueError(
                "--watch, --json and --csv cannot be combined, nor --watch with --plot; pass only one of them"
            )
        if not 0 <= smooth < 1:
            raise ValueError(f"--smooth is {smooth:g}, expected a number from 0 to 0.99")
        if plot is not None and plot.suffix.lower() not in _PLOTS:
            raise ValueError(f"--plot must end in {', '.join(_PLOTS)}, but is {plot}")
        if watch:
            _watch(folder, metric)
        else:
            _show(folder, metric, plot, smooth, overwrite, form="json" if json_ else "csv" if csv_ else "table")


def _watch(folder: Path, metrics: list[str] | None) -> None:
    from rich.console import Console

    from videocrafter.cli.train.runs_watch import watch

    console = Console()
    if not console.is_terminal:
        raise ValueError("--watch needs a terminal, but the output is not one; remove it")
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
        raise ValueError(f"{plot} already exists; pass another name, or --overwrite to replace it")
    if form == "table":
        console = Console()
        console.print(runs_table(runs, shown, width=console.width))
    else:
        typer.echo((as_json if form == "json" else as_csv)(runs, chosen).rstrip("\n"))
    if plot is not None:
        plot_runs(runs, shown or ["loss"], plot, smooth=smooth)
        typer.echo(f"{plot}: {', '.join(shown)}", err=form != "table")
