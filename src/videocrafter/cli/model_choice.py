"""Resolve `--model` (a name, a pipeline folder or a checkpoint file); download and convert with progress output."""

from __future__ import annotations

from pathlib import Path

import typer

from videocrafter.checkpoints.hub.obtain import obtain_model
from videocrafter.cli.progress_bar import progress_bar
from videocrafter.presets import Task


def model_folder(name_or_path: str, task: Task, *, quiet: bool = False) -> Path:
    """Return the pipeline folder of a model; download and convert the model first if needed.

    Downloads (with size and licence) and conversions are reported on standard error even if `quiet`, because they
    take disk space; `quiet` hides only the progress bar.

    Raises:
        ValueError, OSError: as `obtain_model`; call this function inside `bad_input`.
    """
    with progress_bar("converting", in_bytes=True, quiet=quiet) as on_progress:
        return obtain_model(
            name_or_path, task, notify=lambda text: typer.echo(text, err=True), on_progress=on_progress
        )
