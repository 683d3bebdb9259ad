"""A progress bar for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    description: str, *, in_bytes: bool = False, quiet: bool = False
) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on standard error from the first update on, if standard error is a terminal.

    Yields a function that takes the amount done and the total.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    console = Console(stderr=True)
    progress = Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True)
    bar = progress.add_task(escape(description), total=None)

    def update(done: int, total: int) -> None:
        progress.start()
        progress.update(bar, completed=done, total=total)

    try:
        yield update
    finally:
        progress.stop()
