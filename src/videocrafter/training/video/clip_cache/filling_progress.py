"""Show progress, speed and remaining time of filling a cache: a bar in a terminal, otherwise log lines."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

_log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 20.0


class FillingProgress:
    """Progress over one process's shards of the data; a shard is one clip, or an archive of many.

    Args:
        title: label of the bar and of the log lines.
        num_shards: total number.
        shown: whether to show anything; one of several processes is enough.
    """

    def __init__(self, title: str, num_shards: int, *, shown: bool) -> None:
        self._title, self._num_shards, self._shown = title, num_shards, shown
        self._num_done = self._num_cuts = 0
        self._began = self._last_line = time.monotonic()
        self._bar = _open_bar() if shown else None
        if self._bar is not None:
            self._task = self._bar.add_task(title, total=num_shards, rate="")
            self._bar.start()

    def advance(self, num_cuts: int) -> None:
        """Count a finished shard, for which `num_cuts` cuts were encoded."""
        self._num_done += 1
        self._num_cuts += num_cuts
        now = time.monotonic()
        elapsed = max(1e-9, now - self._began)
        rate = f"{self._num_cuts / elapsed:.1f} cuts/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._num_done, rate=rate)
        elif self._shown and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = timedelta(seconds=round(elapsed / self._num_done * (self._num_shards - self._num_done)))
            _log.info("%s: %d of %d, %s, %s left", self._title, self._num_done, self._num_shards, rate, left)

    def close(self) -> None:
        """Restore the terminal."""
        if self._bar is not None:
            self._bar.stop()


def _open_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns, console=console)
