"""`videocrafter cache`: latents and text of a recipe's clips, computed ahead of its training."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.stderr_log import log_to_stderr
from videocrafter.cli.train.recipe_choice import (
    DataOption,
    SettingsOption,
    StartOption,
    choose_recipe,
    with_clip_tasks,
)


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("cache")(cache_command)


def cache_command(
    recipe: Annotated[str, typer.Argument(help="Name of the recipe that will be trained, such as lora.")],
    cache: Annotated[
        str | None,
        typer.Option("--cache", help="The cache's folder. What is in it stays, and is not computed again."),
    ] = None,
    data: DataOption = None,
    init: StartOption = None,
    set_: SettingsOption = None,
    num_workers: Annotated[int | None, typer.Option(help="Processes that decode.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Read what is there; encode anew what is damaged.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Decode again what was left out.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; default: a GPU if there is one.")] = None,
) -> None:
    """Encode all clips of a recipe before it is trained. Ctrl-C stops; the same command goes on."""
    with bad_input():
        config = choose_recipe(recipe, set_, data=data, init=init, cache=cache)
        if num_workers is not None:
            config = with_clip_tasks(
                config,
                lambda task: replace(task, data=replace(task.data, num_workers=num_workers)),
                otherwise="--num-workers is given, but the recipe {!r} decodes no clips; leave it out",
            )
    from videocrafter.cli.hardware import choose_device
    from videocrafter.cli.quiet_libraries import silence_libraries
    from videocrafter.data.errors import SourceError, TooManyBadSamplesError
    from videocrafter.pipelines.model_folder import ModelFolderError, size_in_bytes
    from videocrafter.training.config import SettingsError
    from videocrafter.training.video.clip_cache.filling import Thoroughness, fill_caches

    log_to_stderr()
    silence_libraries()
    with bad_input():
        where = None if device is None else choose_device(device)
    began = time.monotonic()
    with bad_input(SettingsError, SourceError, ModelFolderError, TooManyBadSamplesError):
        outcome = fill_caches(config, device=where, thoroughness=Thoroughness(check=check, retry=retry))
    if outcome.is_main:
        folders = ", ".join(f"{folder}, {size_in_bytes(Path(folder)) / 1e6:.3g} MB" for folder in outcome.folders)
        filled = outcome.filled
        took = timedelta(seconds=round(time.monotonic() - began))
        told = f"{filled.added} cuts added, {filled.found} were there, {filled.left_out} left out"
        typer.echo(f"{told}, in {took}: {folders}", err=True)
        if not filled.finished:
            typer.echo("Stopped before the end; the same command goes on.", err=True)
    if outcome.signal is not None:
        raise typer.Exit(128 + outcome.signal)
