"""How far a stage is, how fast, and how long it still takes: a view that moves in a terminal, else lines."""

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
from videocrafter.training.tracking.log import Follower
from videocrafter.training.tracking.stage_status import COUNTERS, StageStatus, format_duration

_log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 20.0
_NUM_SHOWN = 4
_REFRESHES_PER_SECOND = 2.0
# Times of steps vary with validation and saving; the mean of the last quarter of an hour is calmer.
_PACE_SECONDS = 900.0
_SECONDS_BETWEEN_MARKS = 5.0


class Progress(Follower, Protocol):
    """Shows a stage's progress, and follows its log."""

    def advance(self, step: int, num_samples: int) -> None:
        """So many steps are done; the last one was of so many samples."""

    def doing(self, what: str) -> None:
        """Say what is done from now on: "training", "validating" …"""

    def saved(self, step: int) -> None:
        """A checkpoint of this step is there."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def open_progress(
    title: str, num_steps: int, step: int, past: Sequence[Mapping[str, Any]] = (), *, plain: bool = False
) -> Progress:
    """What suits standard error: a moving view in a terminal, else a line now and then.

    Args:
        title: the stage, and which of how many it is.
        num_steps: steps of the stage.
        step: steps already done.
        past: lines that the stage's log has already.
        plain: lines, also in a terminal.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if plain or not console.is_terminal or console.is_dumb_terminal:
        return LineProgress(title, num_steps, step)
    return LiveProgress(title, num_steps, step, past, console)


class Pace:
    """How fast steps are done.

    Args:
        step: steps already done.
    """

    def __init__(self, step: int) -> None:
        now = time.monotonic()
        self._first_step, self._started, self.num_samples = step, now, 0
        self._marks = deque([(now, step)])

    def advance(self, step: int, num_samples: int) -> None:
        """A step was done."""
        self.num_samples += num_samples
        now = time.monotonic()
        if now - self._marks[-1][0] >= _SECONDS_BETWEEN_MARKS:
            self._marks.append((now, step))
            while now - self._marks[0][0] > _PACE_SECONDS and len(self._marks) > 2:
                self._marks.popleft()

    def seconds_left(self, step: int, num_steps: int) -> float | None:
        """Until the last step; None before the first one."""
        since, from_step = self._marks[0]
        if step <= from_step:
            return None
        return (time.monotonic() - since) / (step - from_step) * (num_steps - step)

    def samples_per_s(self) -> float:
        """Since the beginning, with everything that is done between steps."""
        return self.num_samples / max(1e-9, time.monotonic() - self._started)


class LineProgress:
    """Logs a line now and then."""

    def __init__(self, title: str, num_steps: int, step: int) -> None:
        self._title, self._num_steps, self._step = title, num_steps, step
        self._pace = Pace(step)
        self._last_line = time.monotonic()
        self._news = ""

    def advance(self, step: int, num_samples: int) -> None:
        """Log a line if the last one was long ago."""
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
        """Show the loss and the first few other measurements from now on."""
        if kind != "train":
            return
        shown = {name: value for name, value in values.items() if name not in COUNTERS}
        first = {"loss": shown["loss"], **shown} if "loss" in shown else shown
        self._news = "  ".join(f"{name} {value:.4g}" for name, value in list(first.items())[:_NUM_SHOWN])

    def samples(self, stage: str, step: int, folder: Path) -> None:
        """They are in their folder."""

    def doing(self, what: str) -> None:
        """A line would be too much."""

    def saved(self, step: int) -> None:
        """A line would be too much."""

    def close(self) -> None:
        """Nothing moves."""


class LiveProgress:
    """A view that is drawn anew twice a second; what is logged meanwhile appears above it.

    Args:
        console: a terminal.
    """

    def __init__(
        self, title: str, num_steps: int, step: int, past: Sequence[Mapping[str, Any]], console: Any
    ) -> None:
        from rich.live import Live

        self._status = StageStatus(title=title, num_steps=num_steps, step=step)
        self._pace = Pace(step)
        self._lock = threading.Lock()  # the view is drawn in a thread of its own
        for line in past:
            values = {name: value for name, value in line.items() if name not in ("stage", "step", "kind")}
            self._status.add(line["step"], line["kind"], values)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=_REFRESHES_PER_SECOND)
        self._warnings = _WarningHandler(self._warn)
        logging.getLogger("videocrafter").addHandler(self._warnings)
        self._live.start()

    def advance(self, step: int, num_samples: int) -> None:
        """Note it; drawing is another thread's."""
        self._status.step = step
        self._pace.advance(step, num_samples)

    def line(self, stage: str, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Take in a line of the log."""
        with self._lock:
            self._status.add(step, kind, values)

    def samples(self, stage: str, step: int, folder: Path) -> None:
        """Say where they are."""
        self._status.samples = folder

    def doing(self, what: str) -> None:
        """Show what is done."""
        self._status.doing = what

    def saved(self, step: int) -> None:
        """Show the checkpoint."""
        self._status.saved, self._status.doing = (step, time.time()), "training"

    def close(self) -> None:
        """Leave the last view where it is, and the terminal as it was."""
        logging.getLogger("videocrafter").removeHandler(self._warnings)
        self._status.doing = "finished" if self._status.step >= self._status.num_steps else "stopped"
        try:
            self._live.stop()
        except OSError as error:
            _log.debug("The terminal is gone: %s", error)

    def _warn(self, at: float, message: str) -> None:
        with self._lock:
            self._status.warnings.append((at, message))

    def _render(self) -> StageView:
        with self._lock:
            status = self._status.snapshot()
        status.seconds_left = self._pace.seconds_left(status.step, status.num_steps)
        status.samples_per_s = self._pace.samples_per_s() if self._pace.num_samples else None
        return StageView(status)


class _WarningHandler(logging.Handler):
    """Passes warnings on to the view. Where nobody shows them, as with a library's caller, it prints them, too."""

    def __init__(self, pass_on: Callable[[float, str], None]) -> None:
        super().__init__(logging.WARNING)
        self._pass_on = pass_on

    def emit(self, record: logging.LogRecord) -> None:
        """Called by `logging`."""
        self._pass_on(record.created, record.getMessage())
        if len(logging.getLogger("videocrafter").handlers) == 1 and not logging.getLogger().handlers:
            sys.stderr.write(record.getMessage() + "\n")
