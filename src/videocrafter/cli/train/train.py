"""`videocrafter train`: train a recipe, or resume a run."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videocrafter.cli.errors import BAD_INPUT_STATUS, bad_input
from videocrafter.cli.stderr_log import is_main_process, log_to_stderr
from videocrafter.cli.train.recipe_choice import (
    CacheOption,
    DataOption,
    SettingsOption,
    StagesOption,
    StartOption,
    choose_recipe,
    naming_options,
)

if TYPE_CHECKING:
    from videocrafter.training.resolved_config import Change
    from videocrafter.training.run import TrainingOutcome

_RESUMING = "Stop, resume and overwrite"
_PROGRESS = "Progress and settings"
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("train")(train_command)


def train_command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of the recipe, such as smoke or tiny-t2v.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run. An existing run is resumed.")
    ] = None,
    data: DataOption = None,
    init: StartOption = None,
    cache: CacheOption = None,
    set_: SettingsOption = None,
    stages: StagesOption = None,
    stop_after: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            rich_help_panel=_RESUMING,
            help="Save and stop after this time: 90s, 30m, 1.5h. Run the same command to resume.",
        ),
    ] = None,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            metavar="",
            rich_help_panel=_RESUMING,
            help="Resume without asking although settings or data differ from the run's.",
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            metavar="",
            rich_help_panel=_RESUMING,
            help="Delete the run in the output folder and start again.",
        ),
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; default: a GPU if available.")] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track",
            metavar="NAME",
            rich_help_panel=_PROGRESS,
            help="Also log to a tracker: wandb, trackio ...; wandb:PROJECT sets the project. Repeatable. "
            "TensorBoard is used if installed; none turns it off.",
        ),
    ] = None,
    plain: Annotated[
        bool,
        typer.Option(
            "--plain", metavar="", rich_help_panel=_PROGRESS, help="Print progress as lines instead of the live view."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            metavar="",
            rich_help_panel=_PROGRESS,
            help="Print the resolved configuration as JSON and exit.",
        ),
    ] = False,
) -> None:
    """Train a recipe. Ctrl-C saves and stops; run the same command to resume."""
    with bad_input():
        config = choose_recipe(recipe, set_, data=data, init=init, cache=cache, stages=stages)
        seconds = None if stop_after is None else parse_duration(stop_after)
        if output is None and not dry_run:
            raise ValueError("no output folder was given; pass --output DIR")
    if dry_run or output is None:
        from videocrafter.training.resolved_config import to_json

        typer.echo(to_json(config))
        return
    from videocrafter.cli.quiet_libraries import silence_libraries
    from videocrafter.generation.hardware import choose_device
    from videocrafter.training.run import train

    log_to_stderr()
    silence_libraries()
    with bad_input():
        where = None if device is None else choose_device(device)
    with _one_line_errors():
        outcome = train(
            config,
            output,
            stop_after_s=seconds,
            accept_changes=accept_changes,
            overwrite=overwrite,
            device=where,
            confirm=_ask_about_changes if _can_ask() else None,
            track=track or (),
            plain=plain,
        )
    if is_main_process():
        _report(outcome)
    if outcome.signal is not None and not outcome.finished:
        raise typer.Exit(128 + outcome.signal)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn expected errors of a training run into one line and an exit status."""
    from videocrafter.data.errors import SourceError, TooManyBadSamplesError
    from videocrafter.training.config import SettingsError
    from videocrafter.training.optim.guard import NonFiniteError
    from videocrafter.training.parallel.processes import OtherProcessError
    from videocrafter.training.saving.run_folder import RunFolderError

    try:
        with (
            bad_input(SettingsError, RunFolderError, NonFiniteError, SourceError, TooManyBadSamplesError),
            naming_options(),
        ):
            yield
    except OtherProcessError:
        # The process that failed prints the reason.
        raise typer.Exit(BAD_INPUT_STATUS) from None
    except KeyboardInterrupt:
        typer.echo("Stopped without saving; run the same command to resume from the last checkpoint.", err=True)
        raise typer.Exit(128 + signal.SIGINT) from None


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as "90s", "30m", "1.5h", "1h30m" or "90".

    Raises:
        ValueError: the text is not a duration above 0.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if re.fullmatch(r"(?:\d+(?:\.\d+)?\s*[smhd]\s*)+|\d+(?:\.\d+)?", text.strip()) is None or seconds <= 0:
        raise ValueError(f"--stop-after {text!r} is not a duration; write it as 90s, 30m or 1.5h")
    return seconds


def _can_ask() -> bool:
    """Whether the user can answer a question; processes started by a launcher cannot ask."""
    return "WORLD_SIZE" not in os.environ and sys.stdin.isatty() and sys.stderr.isatty()


def _ask_about_changes(found: Sequence[Change]) -> bool:
    from rich.console import Console
    from rich.table import Table

    table = Table("setting", "run", "now", title="Settings that differ from the run's")
    for change in found:
        table.add_row(change.path, str(change.before), str(change.now))
    Console(stderr=True).print(table)
    return typer.confirm("Resume with the new settings?", default=False, err=True)


def _report(outcome: TrainingOutcome) -> None:
    if outcome.finished:
        typer.echo(f"Finished: {outcome.output / 'final'}", err=True)
        return
    typer.echo(
        f"Saved stage {outcome.stage} at step {outcome.step} in {outcome.output}; run the same command to resume.",
        err=True,
    )
