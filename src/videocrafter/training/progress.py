"""How far a stage is, how fast, and how long it still takes: a bar in a terminal, else lines."""

from __future__ import annotations

import logging
import time
from typing import Any

_log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 20.0
_NUM_SHOWN = 4


class Progress:
    """Shows a stage's progress.

    Args:
        title: the stage, and which of how many it is.
        num_steps: steps of the stage.
        step: steps already done.
    """

    def __init__(self, title: str, num_steps: int, step: int) -> None:
        self._title, self._num_steps = title, num_steps
        self._first_step, self._step = step, step
        self._num_samples = 0
        self._started = self._last_line = time.monotonic()
        self._news = ""
        self._bar = _open_bar()
        self._task = None
        if self._bar is not None:
            self._task = self._bar.add_task(title, total=num_steps, completed=step, rate="", news="")
            self._bar.start()

    def advance(self, num_samples: int) -> None:
        """Count one step."""
        self._step += 1
        self._num_samples += num_samples
        if self._bar is not None:
            self._bar.update(self._task, completed=self._step, rate=self._rate(), news=self._news)
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            left = self._seconds_per_step() * (self._num_steps - self._step)
            _log.info(
                "%s: step %d of %d, %s, %s left  %s",
                self._title,
                self._step,
                self._num_steps,
                self._rate(),
                format_duration(left),
                self._news,
            )

    def show(self, metrics: dict[str, float]) -> None:
        """Show the loss and the first few others of these numbers from now on."""
        first = {"loss": metrics["loss"], **metrics} if "loss" in metrics else metrics
        self._news = "  ".join(f"{name} {value:.4g}" for name, value in list(first.items())[:_NUM_SHOWN])

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()

    def _seconds_per_step(self) -> float:
        return (time.monotonic() - self._started) / max(1, self._step - self._first_step)

    def _rate(self) -> str:
        return f"{self._num_samples / max(1e-9, time.monotonic() - self._started):.1f} samples/s"


def format_duration(seconds: float) -> str:
    """Such as "1:02:03" or "2:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _open_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[news]}"),
        console=console,
        # Times of steps vary with validation and saving; the mean of the last quarter of an hour is calmer.
        speed_estimate_period=900,
    )
