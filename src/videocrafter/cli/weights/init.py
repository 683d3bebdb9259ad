"""`videocrafter init`: a video model to train, made from Stable Diffusion 2.1."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videocrafter.cli.errors import bad_input


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("init")(init)


def init(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The pipeline folder that is written.")],
    source: Annotated[
        Path,
        typer.Option("--from", metavar="SD_FOLDER", help="Stable Diffusion 2.1-base as diffusers stores it."),
    ],
    preset: Annotated[str, typer.Option(help="The model that it shall become.")] = "t2v-256",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model in OUT.")] = False,
) -> None:
    """Start a video model from Stable Diffusion 2.1: every frame begins as the image model would paint it.

    All weights of the image model land in their place; the layers for time and for fps are new and change nothing
    until they are trained.
    """
    from videocrafter.cli.quiet_libraries import silence_libraries

    silence_libraries()
    from videocrafter.checkpoints.stable_diffusion.initialisation import init_from_sd

    def tell(step: str) -> None:
        typer.echo(f"{step.capitalize()} ...", err=True)

    with bad_input():
        made = init_from_sd(source, output, preset=preset, overwrite=overwrite, on_step=tell)
    for note in made.notes:
        typer.echo(f"Note: {note}", err=True)
    typer.echo(
        f"Wrote {made.folder}: {made.num_filled:,} parameters of its video network are from {source}, and"
        f" {made.num_new:,} are new and change nothing yet."
    )
    typer.echo(f"Train it: videocrafter train RECIPE --set init={made.folder}")
