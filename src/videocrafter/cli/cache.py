"""`videocrafter cache`: latents and text of a recipe's clips, computed ahead of its training."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.train import log_to_stderr, resolve_recipe, with_cache, with_data, with_start

if TYPE_CHECKING:
    from videocrafter.training.config import RecipeConfig


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("cache")(cache_command)


def cache_command(
    recipe: Annotated[str, typer.Argument(help="Name of the recipe that will be trained, such as lora.")],
    cache: Annotated[
        str | None,
        typer.Option("--cache", help="The cache's folder. What is in it stays, and is not computed again."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Clips to train on: a folder, or FORMAT:PATH (docs/data.md). Repeatable."),
    ] = None,
    init: Annotated[
        str | None, typer.Option("--init", help="What training starts from: a pipeline folder, or a model's name.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change one setting, as for `videocrafter train`. Repeatable.")
    ] = None,
    num_workers: Annotated[int | None, typer.Option(help="Processes that decode.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Read what is there; encode anew what is damaged.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Decode again what was left out.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; default: a GPU if there is one.")] = None,
) -> None:
    """Encode all clips of a recipe before it is trained. Ctrl-C stops; the same command goes on."""
    with bad_input():
        config = with_cache(with_start(with_data(resolve_recipe(recipe, set_ or []), data or []), init), cache)
        if num_workers is not None:
            config = _with_workers(config, num_workers)
    from videocrafter.cli.hardware import choose_device
    from videocrafter.cli.quiet_libraries import silence_libraries
    from videocrafter.data.errors import SourceError, TooManyBadSamplesError
    from videocrafter.pipelines.model_folder import ModelFolderError, size_in_bytes
    from videocrafter.training.clip_cache.filling import Thoroughness, fill_caches
    from videocrafter.training.config import SettingsError

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


def _with_workers(config: RecipeConfig, num_workers: int) -> RecipeConfig:
    """The recipe with so many decoding processes in every stage that has any."""
    from videocrafter.training.tasks.clip_diffusion_config import ClipDiffusionTaskConfig

    stages = tuple(
        replace(stage, task=replace(stage.task, data=replace(stage.task.data, num_workers=num_workers)))
        if isinstance(stage.task, ClipDiffusionTaskConfig)
        else stage
        for stage in config.stages
    )
    return replace(config, stages=stages)
