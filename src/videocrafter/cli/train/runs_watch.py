"""`videocrafter runs --watch`: a view of running trainings, refreshed from their logs until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from videocrafter.cli.train.runs_table import full_name, runs_table, usual_metrics
from videocrafter.training.tracking.live_view import StageView
from videocrafter.training.tracking.run_comparison import RunSummary, find_runs
from videocrafter.training.tracking.stage_status import status_of_run

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SECONDS_BETWEEN_UPDATES = 2.0


def watch(
    folder: Path, metrics: Sequence[str] | None, console: Console, wait: Callable[[float], None] = time.sleep
) -> None:
    """Show the live view of one run, or a table of several. Returns on Ctrl-C.

    Args:
        metrics: columns of the table; None takes the default ones.
        console: a terminal.
        wait: called between two updates.

    Raises:
        ValueError: the folder contains no run.
    """
    from rich.live import Live

    find_runs(folder)
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(current_view(folder, metrics, console.width), refresh=True)
                wait(SECONDS_BETWEEN_UPDATES)
        except KeyboardInterrupt:
            return


def current_view(folder: Path, metrics: Sequence[str] | None, width: int) -> RenderableType:
    """Return the present view, or an error message if the runs cannot be read right now."""
    try:
        runs = find_runs(folder)
        if len(runs) == 1:
            return _one(runs[0])
        names = [full_name(runs, name) for name in metrics] if metrics else usual_metrics(runs)
        return runs_table(runs, names, width=width)
    except (ValueError, OSError) as error:  # such as a run that is being overwritten
        return str(error)


def _one(run: RunSummary) -> StageView:
    return StageView(
        status_of_run(
            run.folder,
            f"{run.folder.resolve().name} ({run.recipe}), stage {run.stage}",
            run.stage,
            run.num_steps,
            finished=run.finished,
        )
    )
