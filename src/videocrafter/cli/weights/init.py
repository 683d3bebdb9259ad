"""`videocrafter init`: initialise a video model from Stable Diffusion 2.1."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from videocrafter.cli.errors import bad_input


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("init")(init)


def init(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Pipeline folder to write.")],
    source: Annotated[
        Path,
        typer.Option("--from", metavar="SD_FOLDER", help="Folder of Stable Diffusion 2.1-base in diffusers' format."),
    ],
    preset: Annotated[str, typer.Option(help="Model to initialise.")] = "t2v-256",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing model in OUT.")] = False,
) -> None:
    """Initialise a video model from Stable Diffusion 2.1, ready to train.

    All weights of the image model are copied. New layers are zero-initialised, so that before training
    each frame is what the image model would generate.
    """
    from videocrafter.cli.quiet_libraries import silence_libraries

    silence_libraries()
    from videocrafter.checkpoints.stable_diffusion.initialisation import init_from_sd

    def report(step: str) -> None:
        typer.echo(f"{step.capitalize()} ...", err=True)

    with bad_input():
        made = init_from_sd(source, output, preset=preset, overwrite=overwrite, on_step=report)
    for note in made.notes:
        typer.echo(f"Note: {note}", err=True)
    typer.echo(
        f"Wrote {made.folder}: its denoiser has {made.num_filled:,} parameters from {source} and"
        f" {made.num_new:,} new ones, which have no effect before training."
    )
    typer.echo(f"To train it, run: videocrafter train RECIPE --init {made.folder}")
