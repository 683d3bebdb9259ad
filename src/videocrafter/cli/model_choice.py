"""What `--model` takes: a name, a pipeline folder or a checkpoint file. What is missing is fetched, visibly."""

from __future__ import annotations

from pathlib import Path

from videocrafter.checkpoints.hub.obtain import obtain_model
from videocrafter.presets import Task


def model_folder(name_or_path: str, task: Task, *, quiet: bool = False) -> Path:
    """The pipeline folder of a model, downloaded and converted first if need be.

    What is downloaded (with size and licence) and converted is said on standard error, even if `quiet`, since it
    fills a disk; `quiet` hides the moving bar of the conversion.

    Raises:
        ValueError, OSError: as `obtain_model`; call it inside `bad_input`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True)
    bar = progress.add_task("converting", total=None)

    def on_progress(done: int, total: int) -> None:
        # Not before, because the download has a bar of its own.
        progress.start()
        progress.update(bar, completed=done, total=total)

    try:
        return obtain_model(
            name_or_path,
            task,
            notify=lambda text: console.print(text, markup=False, soft_wrap=True),
            on_progress=on_progress,
        )
    finally:
        progress.stop()
