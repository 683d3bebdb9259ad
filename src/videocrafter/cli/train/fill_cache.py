"""`videocrafter cache`: compute the latents and text embeddings of a recipe's clips before training."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.interruption import reporting_interruption
from videocrafter.cli.stderr_log import log_to_stderr
from videocrafter.cli.train.recipe_choice import (
    DataOption,
    SettingsOption,
    StartOption,
    choose_recipe,
    naming_options,
    with_clip_tasks,
)


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("cache")(cache_command)


def cache_command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of the recipe to train later, such as lora.")],
    cache: Annotated[
        str | None,
        typer.Option("--cache", help="Folder of the cache. Existing entries are kept and not recomputed."),
    ] = None,
    data: DataOption = None,
    init: StartOption = None,
    set_: SettingsOption = None,
    num_workers: Annotated[int | None, typer.Option(help="Number of decoding processes.")] = None,
    check: Annotated[
        bool, typer.Option("--check", metavar="", help="Verify existing entries and re-encode damaged ones.")
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", metavar="", help="Retry clips that could not be decoded.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; default: a GPU if available.")] = None,
) -> None:
    """Encode all clips of a recipe before training. Ctrl-C stops; run the same command to resume."""
    with bad_input(), naming_options():
        config = choose_recipe(recipe, set_, data=data, init=init, cache=cache)
        if num_workers is not None:
            config = with_clip_tasks(
                config,
                lambda task: replace(task, data=replace(task.data, num_workers=num_workers)),
                otherwise="the recipe {!r} decodes no clips; remove --num-workers",
            )
    from videocrafter.cli.quiet_libraries import silence_libraries
    from videocrafter.data.errors import SourceError, TooManyBadSamplesError
    from videocrafter.generation.hardware import choose_device
    from videocrafter.pipelines.model_folder import ModelFolderError, size_in_bytes
    from videocrafter.training.config import SettingsError
    from videocrafter.training.video.clip_cache.filling import Thoroughness, fill_caches

    log_to_stderr()
    silence_libraries()
    with bad_input():
        where = None if device is None else choose_device(device)
    began = time.monotonic()
    kept = "Entries of the cache are kept; run the same command to resume."
    with (
        reporting_interruption(lambda: kept),
        bad_input(SettingsError, SourceError, ModelFolderError, TooManyBadSamplesError),
        naming_options(),
    ):
        outcome = fill_caches(config, device=where, thoroughness=Thoroughness(check=check, retry=retry))
    if outcome.is_main:
        folders = ", ".join(f"{folder}, {size_in_bytes(Path(folder)) / 1e6:.3g} MB" for folder in outcome.folders)
        filled = outcome.filled
        took = timedelta(seconds=round(time.monotonic() - began))
        counts = f"{filled.added} clips added, {filled.found} already cached, {filled.left_out} skipped"
        typer.echo(f"{counts} in {took}: {folders}", err=True)
        if (note := filled.long_captions.note()) is not None:
            typer.echo(f"note: {note}", err=True)
        if not filled.finished:
            typer.echo("Stopped before the end; run the same command to resume.", err=True)
    if outcome.signal is not None:
        raise typer.Exit(128 + outcome.signal)
