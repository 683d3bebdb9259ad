"""The status of a stage in training, updated by the loop or read from a run's log."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from videocrafter.training.tracking.log import LOG_FILE, number, read_log, values_of
from videocrafter.training.tracking.log_keys import LOG_KEYS

_HISTORY = 120
_PACE_LINES = 20


@dataclass(kw_only=True)
class StageStatus:
    """The present state of a stage.

    Attributes:
        title: heading of the view, such as "low (2/3)".
        step, num_steps: steps done, and steps of the stage.
        activity: such as "training", "validating", "finished".
        seconds_left: estimated time to the stage's last step; None if unknown.
        saved: step of the newest checkpoint, and when it was written (seconds since 1970).
        samples: the newest folder of samples.
        warnings: the newest warnings, each with its time (seconds since 1970).
        numbers: values of the newest training line.
        history: recent values of each metric, oldest first.
        validation: step and values of the last two validations, oldest first.
    """

    title: str
    num_steps: int
    step: int = 0
    activity: str = "training"
    seconds_left: float | None = None
    saved: tuple[int, float] | None = None
    samples: Path | None = None
    warnings: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=3))
    numbers: dict[str, float] = field(default_factory=dict)
    history: dict[str, deque[float]] = field(default_factory=dict)
    validation: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def add(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Add a log line."""
        numbers = {name: value for name in values if (value := number(values, name)) is not None}
        if kind == "train":
            self.step, self.numbers = step, numbers
            for name, value in numbers.items():
                if name not in LOG_KEYS:
                    self.history.setdefault(name, deque(maxlen=_HISTORY)).append(value)
        elif kind == "validation":
            self.validation = [*self.validation[-1:], (step, numbers)]

    def snapshot(self) -> StageStatus:
        """Return a copy that later calls of `add` do not change."""
        history = {name: deque(values) for name, values in self.history.items()}
        return replace(self, history=history, warnings=deque(self.warnings))


def status_of_run(folder: Path, title: str, stage: str, num_steps: int, *, finished: bool) -> StageStatus:
    """Read the status of a run from its folder.

    Args:
        title: heading of the view.
        stage: the present stage, which has `num_steps` steps.
    """
    status = StageStatus(title=title, num_steps=num_steps)
    lines = [line for line in read_log(folder) if line["stage"] == stage]
    for line in lines:
        status.add(line["step"], line["kind"], values_of(line))
    status.seconds_left = 0.0 if finished else _seconds_left(lines, num_steps)
    status.saved = newest_checkpoint(folder / "checkpoints", stage)
    status.samples = max(folder.glob(f"samples/{stage}-step-*"), default=None)
    status.activity = "finished" if finished else f"last log line {format_age(folder / LOG_FILE)} ago"
    return status


def newest_checkpoint(folder: Path, stage: str) -> tuple[int, float] | None:
    """Return step and modification time of a stage's newest checkpoint."""
    found = []
    for path in folder.glob(f"{stage}-step-*"):
        digits = path.name.removeprefix(f"{stage}-step-")
        if digits.isdecimal():
            found.append((int(digits), path))
    if not found:
        return None
    step, path = max(found)
    try:
        return step, path.stat().st_mtime
    except OSError:  # deleted in the meantime
        return None


def format_age(path: Path) -> str:
    """Return how long ago a file was modified, such as "2:03"."""
    try:
        return format_duration(max(0.0, time.time() - path.stat().st_mtime))
    except OSError:
        return "?"


def format_duration(seconds: float) -> str:
    """Format a duration as "2:03" (minutes), "1:02:03" (hours) or "3 d 4 h" (two days or more)."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours_of_day = divmod(hours, 24)
    if days >= 2:
        return f"{days} d {hours_of_day} h"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _seconds_left(lines: Sequence[Mapping[str, Any]], num_steps: int) -> float | None:
    """Estimate the remaining time from the last training lines; it excludes validation and saving."""
    timed = [
        (line["step"], seconds)
        for line in lines
        if line["kind"] == "train" and math.isfinite(seconds := number(line, "seconds") or 0.0)
    ][-_PACE_LINES:]
    if len(timed) < 2 or timed[-1][0] <= timed[0][0] or timed[-1][1] <= timed[0][1]:
        return None
    pace = (timed[-1][1] - timed[0][1]) / (timed[-1][0] - timed[0][0])
    return pace * max(0, num_steps - timed[-1][0])
