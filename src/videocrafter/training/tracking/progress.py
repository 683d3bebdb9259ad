"""Progress of a stage: a live view in a terminal, otherwise a line every 20 seconds."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from videocrafter.training.tracking.live_view import StageView
from videocrafter.training.tracking.log import Follower, values_of
from videocrafter.training.tracking.log_keys import LOG_KEYS
from videocrafter.training.tracking.stage_status import StageStatus, format_duration

_log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 20.0
_NUM_SHOWN = 4
_REFRESHES_PER_SECOND = 2.0
# Validation and saving make step times uneven, so the pace is averaged over 15 minutes.
_PACE_SECONDS = 900.0
_SECONDS_BETWEEN_MARKS = 5.0


class StageProgress(Follower, Protocol):
    """Shows the progress of a stage and follows its log."""

    def advance(self, step: int, num_samples: int) -> None:
        """Report that `step` steps are done, the last one with `num_samples` samples."""

    def show(self, activity: str) -> None:
        """Report the present activity: "training", "validating" …"""

    def saved(self, step: int) -> None:
        """Report that a checkpoint of this step was written."""

    def close(self) -> None:
        """Restore the terminal."""


def open_progress(
    title: str, num_steps: int, step: int, past: Sequence[Mapping[str, Any]] = (), *, plain: bool = False
) -> StageProgress:
    """Choose a display for standard error: a live view in a terminal, otherwise lines.

    Args:
        title: the stage's name and number, such as "low (2/3)".
        num_steps: steps of the stage.
        step: steps already done.
        past: existing log lines of the stage.
        plain: print lines, even in a terminal.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if plain or not console.is_terminal or console.is_dumb_terminal:
        return LineProgress(title, num_steps, step)
    return LiveProgress(title, num_steps, step, past, console)


class Pace:
    """Measures the training speed.

    Args:
        step: steps already done.
    """

    def __init__(self, step: int) -> None:
        now = time.monotonic()
        self._first_step, self._started, self.num_samples = step, now, 0
        self._marks = deque([(now, step)])

    def advance(self, step: int, num_samples: int) -> None:
        """Count a step."""
        self.num_samples += num_samples
        now = time.monotonic()
        if now - self._marks[-1][0] >= _SECONDS_BETWEEN_MARKS:
            self._marks.append((now, step))
            while now - self._marks[0][0] > _PACE_SECONDS and len(self._marks) > 2:
                self._marks.popleft()

    def seconds_left(self, step: int, num_steps: int) -> float | None:
        """Return the estimated time to the last step; None before the first step is done."""
        since, from_step = self._marks[0]
        if step <= from_step:
            return None
        return (time.monotonic() - since) / (step - from_step) * (num_steps - step)

    def samples_per_s(self) -> float:
        """Return the mean rate since the start, including validation and saving."""
        return self.num_samples / max(1e-9, time.monotonic() - self._started)


class LineProgress:
    """Logs a progress line every 20 seconds."""

    def __init__(self, title: str, num_steps: int, step: int) -> None:
        self._title, self._num_steps, self._step = title, num_steps, step
        self._pace = Pace(step)
        self._last_line = time.monotonic()
        self._news = ""

    def advance(self, step: int, num_samples: int) -> None:
        """Log a line if the last one is old enough."""
        self._step = step
        self._pace.advance(self._step, num_samples)
        if time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            _log.info(
                "%s: step %d of %d, %.1f samples/s, %s left  %s",
                self._title,
                self._step,
                self._num_steps,
                self._pace.samples_per_s(),
                format_duration(self._pace.seconds_left(self._step, self._num_steps) or 0.0),
                self._news,
            )

    def line(self, stage: str, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Take the loss and the first few other metrics for the next lines."""
        if kind != "train":
            return
        shown = {name: value for name, value in values.items() if name not in LOG_KEYS}
        first = {"loss": shown["loss"], **shown} if "loss" in shown else shown
        self._news = "  ".join(f"{name} {value:.4g}" for name, value in list(first.items())[:_NUM_SHOWN])

    def samples(self, stage: str, step: int, folder: Path) -> None:
        """Ignore samples."""

    def show(self, activity: str) -> None:
        """Ignore activities, to keep the output short."""

    def saved(self, step: int) -> None:
        """Ignore checkpoints, to keep the output short."""

    def close(self) -> None:
        """Do nothing."""


class LiveProgress:
    """A view that is redrawn twice a second; log messages appear above it.

    Args:
        console: a terminal.
    """

    def __init__(
        self, title: str, num_steps: int, step: int, past: Sequence[Mapping[str, Any]], console: Any
    ) -> None:
        from rich.live import Live

        self._status = StageStatus(title=title, num_steps=num_steps, step=step)
        self._pace = Pace(step)
        self._lock = threading.Lock()  # the view is drawn in another thread
        for line in past:
            self._status.add(line["step"], line["kind"], values_of(line))
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=_REFRESHES_PER_SECOND)
        self._warnings = _WarningHandler(self._warn)
        logging.getLogger("videocrafter").addHandler(self._warnings)
        self._live.start()

    def advance(self, step: int, num_samples: int) -> None:
        """Record the step; another thread draws it."""
        self._status.step = step
        self._pace.advance(step, num_samples)

    def line(self, stage: str, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Add a log line to the view."""
        with self._lock:
            self._status.add(step, kind, values)

    def samples(self, stage: str, step: int, folder: Path) -> None:
        """Show the folder."""
        self._status.samples = folder

    def show(self, activity: str) -> None:
        """Show the activity."""
        self._status.activity = activity

    def saved(self, step: int) -> None:
        """Show the checkpoint."""
        self._status.saved, self._status.activity = (step, time.time()), "training"

    def close(self) -> None:
        """Keep the last view on screen and restore the terminal."""
        logging.getLogger("videocrafter").removeHandler(self._warnings)
        self._status.activity = "finished" if self._status.step >= self._status.num_steps else "stopped"
        try:
            self._live.stop()
        except OSError as error:
            _log.debug("The terminal was closed: %s", error)

    def _warn(self, at: float, message: str) -> None:
        with self._lock:
            self._status.warnings.append((at, message))

    def _render(self) -> StageView:
        with self._lock:
            status = self._status.snapshot()
        status.seconds_left = self._pace.seconds_left(status.step, status.num_steps)
        if self._pace.num_samples:
            status.numbers = {"samples_per_s": self._pace.samples_per_s(), **status.numbers}
        return StageView(status)


class _WarningHandler(logging.Handler):
    """Passes warnings on to the view, and prints them if no other handler does (library use)."""

    def __init__(self, pass_on: Callable[[float, str], None]) -> None:
        super().__init__(logging.WARNING)
        self._pass_on = pass_on

    def emit(self, record: logging.LogRecord) -> None:
        """Called by `logging`."""
        self._pass_on(record.created, record.getMessage())
        if len(logging.getLogger("videocrafter").handlers) == 1 and not logging.getLogger().handlers:
            sys.stderr.write(record.getMessage() + "\n")
