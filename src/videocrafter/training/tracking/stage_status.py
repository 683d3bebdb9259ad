"""Where a stage stands, as one sees it while it trains: from the loop itself, or from outside by its log."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from videocrafter.training.tracking.log import LOG_FILE, number, read_log

_HISTORY = 120
_PACE_LINES = 20
# What is no measurement of the task.
COUNTERS = (
    "lr",
    "samples",
    "skipped",
    "loss_scale",
    "samples_per_s",
    "data_wait_share",
    "peak_memory_gib",
    "seconds",
)


@dataclass(kw_only=True)
class StageStatus:
    """What is known of a stage that trains.

    Attributes:
        title: the stage, and which of how many it is; from outside the run's name, too.
        step, num_steps: steps done, and steps of the stage.
        doing: such as "training", "validating", "finished".
        seconds_left: until the stage's last step, at the pace so far; None as long as that is not known.
        samples_per_s: of now, for want of a line that says it.
        saved: step of the newest checkpoint, and the time of day (seconds since 1970) when it was made.
        samples: the newest folder of sample sheets.
        warnings: the newest ones, with the time of day.
        numbers: of the newest training line.
        history: the last values of each measurement, oldest first.
        validation: its newest values, and those before: step and numbers of each.
    """

    title: str
    num_steps: int
    step: int = 0
    doing: str = "training"
    seconds_left: float | None = None
    samples_per_s: float | None = None
    saved: tuple[int, float] | None = None
    samples: Path | None = None
    warnings: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=3))
    numbers: dict[str, float] = field(default_factory=dict)
    history: dict[str, deque[float]] = field(default_factory=dict)
    validation: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def add(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Take in one line of the log."""
        numbers = {name: value for name in values if (value := number(values, name)) is not None}
        if kind == "train":
            self.step, self.numbers = step, numbers
            for name, value in numbers.items():
                if name not in COUNTERS:
                    self.history.setdefault(name, deque(maxlen=_HISTORY)).append(value)
        elif kind == "validation":
            self.validation = [*self.validation[-1:], (step, numbers)]

    def snapshot(self) -> StageStatus:
        """A copy that `add` does not change."""
        history = {name: deque(values) for name, values in self.history.items()}
        return replace(self, history=history, warnings=deque(self.warnings))


def status_of_run(folder: Path, title: str, stage: str, num_steps: int, *, finished: bool) -> StageStatus:
    """Where a run stands, from what it wrote.

    Args:
        title: what to call it.
        stage: the stage that it is in, of `num_steps` steps.
    """
    status = StageStatus(title=title, num_steps=num_steps)
    lines = [line for line in read_log(folder) if line["stage"] == stage]
    for line in lines:
        values = {name: value for name, value in line.items() if name not in ("stage", "step", "kind")}
        status.add(line["step"], line["kind"], values)
    status.seconds_left = 0.0 if finished else _seconds_left(lines, num_steps)
    status.saved = newest_checkpoint(folder / "checkpoints", stage)
    status.samples = max(folder.glob(f"samples/{stage}-step-*"), default=None)
    status.doing = "finished" if finished else f"last line {format_age(folder / LOG_FILE)} ago"
    return status


def newest_checkpoint(folder: Path, stage: str) -> tuple[int, float] | None:
    """Step and time of a stage's newest checkpoint, judged by its name."""
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
    """How long ago a file was changed, such as "2:03"."""
    try:
        return format_duration(max(0.0, time.time() - path.stat().st_mtime))
    except OSError:
        return "?"


def format_duration(seconds: float) -> str:
    """Such as "1:02:03" or "2:03"; days from the second on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours_of_day = divmod(hours, 24)
    if days >= 2:
        return f"{days} d {hours_of_day} h"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _seconds_left(lines: Sequence[Mapping[str, Any]], num_steps: int) -> float | None:
    """At the pace of the last training lines, whose `seconds` leave validation and saving out."""
    timed = [
        (line["step"], seconds)
        for line in lines
        if line["kind"] == "train" and math.isfinite(seconds := number(line, "seconds") or 0.0)
    ][-_PACE_LINES:]
    if len(timed) < 2 or timed[-1][0] <= timed[0][0] or timed[-1][1] <= timed[0][1]:
        return None
    pace = (timed[-1][1] - timed[0][1]) / (timed[-1][0] - timed[0][0])
    return pace * max(0, num_steps - timed[-1][0])
