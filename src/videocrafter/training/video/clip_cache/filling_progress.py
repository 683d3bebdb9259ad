"""How far the filling of a cache is, how fast, and how long it still takes: a bar in a terminal, else lines."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

_log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 20.0


class FillProgress:
    """Shows how many of a process's shards were looked at; a clip is a shard, or an archive of many is.

    Args:
        title: what it is called.
        num_shards: in all.
        shown: whether anything is; of several processes one is enough.
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
        """A shard is done, for which so many cuts were encoded."""
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
        """Leave the terminal as it was."""
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
