"""The `videocrafter` command. Heavy libraries are imported by the commands when they run."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, Any

import typer

from videocrafter import __version__
from videocrafter.cli import compare, label, plan, prepare, studio, study
from videocrafter.cli.closed_output import exit_status
from videocrafter.cli.evaluate import command as evaluate
from videocrafter.cli.generate import command as generate
from videocrafter.cli.interruption import interruptible
from videocrafter.cli.train import fill_cache as cache
from videocrafter.cli.train import runs, train
from videocrafter.cli.user_paths import UserPathCommand
from videocrafter.cli.weights import convert, init, models, publish

app = typer.Typer(
    name="videocrafter",
    help="Generate videos from prompts and images, train video models, and evaluate them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"videocrafter {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Generate videos from prompts and images, train video models, and evaluate them."""


for _command in (
    generate,
    models,
    convert,
    prepare,
    label,
    train,
    plan,
    cache,
    evaluate,
    compare,
    study,
    runs,
    publish,
    init,
    studio,
):
    _command.register(app)
for _registered in (
    *app.registered_commands,
    *study.study.registered_commands,
    *plan.plan.registered_commands,
):
    assert _registered.callback is not None
    _registered.cls = UserPathCommand
    _registered.callback = interruptible(_registered.callback)


def _print_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"Warning: {' '.join(str(message).split())}", err=True)


def main() -> None:
    """Entry point of the console script."""
    warnings.showwarning = _print_warning
    status = exit_status(app)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from videocrafter.training.parallel.processes import end_process

        end_process(status)
    sys.exit(status)


# Multi-process launchers such as torchrun start `python -m videocrafter.cli.main`.
if __name__ == "__main__":
    main()
