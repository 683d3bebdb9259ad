"""A stage on a few lines of a terminal: how far it is, what it measures and which way that goes."""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from videocrafter.training.tracking.stage_status import StageStatus, format_duration

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

_BARS = "▁▂▃▄▅▆▇█"
_MOST_CURVES = 8
_MOST_BARS = 50
_LABEL, _VALUE, _FACT, _GAP = 12, 9, 20, 2  # columns of the terminal


class StageView:
    """A `StageStatus` for rich, drawn anew with what it holds at the time.

    Args:
        now: the time of day in seconds, for ages.
    """

    def __init__(self, status: StageStatus, now: float | None = None) -> None:
        self._status = status
        self._now = now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """One part below the other, each as wide as the terminal at most."""
        from rich.text import Text

        width = options.max_width
        yield Text(f"{self._status.title}: {self._status.doing}", style="bold")
        yield self._bar()
        if self._status.history:
            yield self._curves(width, with_bars=not options.ascii_only)
        yield self._facts(pairs=2 if width >= 2 * (_LABEL + _FACT + 2 * _GAP) else 1)
        if self._status.validation:
            yield from self._validation(width)
        if self._status.samples is not None:
            yield Text(f"samples in {self._status.samples}")
        for at, message in self._status.warnings:
            when = datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")
            # Two lines at most: all of it stands above the view, where it was logged.
            yield Text(textwrap.shorten(f"{when} {message}", 2 * width - 20, placeholder=" ..."), style="yellow")

    def _bar(self) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        status = self._status
        total, step = max(1, status.num_steps), min(status.step, max(1, status.num_steps))
        left = "" if status.seconds_left is None else f", {format_duration(status.seconds_left)} left"
        line = Table.grid(padding=(0, 1, 0, 0), expand=True)
        line.add_column(ratio=1)
        line.add_column(justify="right", no_wrap=True)
        # Rounded down: 100 % is the last step alone.
        line.add_row(
            ProgressBar(total=total, completed=step),
            f"{100 * step // total} %, step {status.step} of {status.num_steps}{left}",
        )
        return line

    def _curves(self, width: int, *, with_bars: bool) -> Table:
        """The loss and what is measured beside it, with their last values as little bars."""
        history = self._status.history
        names = sorted(history, key=lambda name: name != "loss")[:_MOST_CURVES]  # the loss first, else as they came
        room = min(_MOST_BARS, width - max(_LABEL, *map(len, names)) - _VALUE - 3 * _GAP) if with_bars else 0
        table = _grid(_LABEL, _VALUE, 0)
        for name in names:
            values = list(history[name])
            table.add_row(name, _short(values[-1]), sparkline(values[-room:]) if room > 0 else "")
        return table

    def _facts(self, *, pairs: int) -> Table:
        """What tells whether training runs well, so many facts to a line."""
        status, numbers = self._status, self._status.numbers
        rate = numbers.get("samples_per_s", status.samples_per_s)
        memory, wait = numbers.get("peak_memory_gib"), numbers.get("data_wait_share")
        facts = [
            ("samples/s", None if rate is None else f"{rate:.3g}"),
            ("lr", _short(numbers.get("lr"))),
            ("data wait", None if wait is None else f"{100 * wait:.0f} %"),
            ("memory", None if memory is None else f"{memory:.3g} GiB peak"),
            ("skipped", f"{numbers.get('skipped', 0):.0f} steps"),
            ("checkpoint", self._checkpoint()),
        ]
        shown = [(name, value) for name, value in facts if value is not None]
        table = _grid(*(_LABEL, _FACT) * pairs)
        for first in range(0, len(shown), pairs):
            table.add_row(*(cell for fact in shown[first : first + pairs] for cell in fact))
        return table

    def _checkpoint(self) -> str:
        if self._status.saved is None:
            return "none yet"
        step, at = self._status.saved
        now = time.time() if self._now is None else self._now
        return f"step {step}, {format_duration(max(0.0, now - at))} ago"

    def _validation(self, width: int) -> Iterable[Text | Table]:
        """The newest validation, each number with its change against the one before."""
        from rich.text import Text

        (step, newest), before = self._status.validation[-1], self._status.validation[:-1]
        older = before[0][1] if before else {}
        yield Text(f"validation, step {step}" + (f", change since step {before[0][0]}" if before else ""))
        cells = []
        for name, value in newest.items():
            cells += [name, _short(value), _change(name, value, older.get(name))]
        columns = max(1, width // (max(map(len, newest), default=0) + _VALUE + 14))
        table = _grid(*(_LABEL, 0, 0) * columns)
        for first in range(0, len(cells), 3 * columns):
            table.add_row(*cells[first : first + 3 * columns])
        yield table


def sparkline(values: Sequence[float]) -> str:
    """Values as little bars between the lowest and the highest of them; a blank for what is no number."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return " " * len(values)
    low, high = min(known), max(known)
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return "".join(_BARS[3] if math.isfinite(value) else " " for value in values)
    top = len(_BARS) - 1
    return "".join(_BARS[round(top * (value - low) / span)] if math.isfinite(value) else " " for value in values)


def _grid(*widths: int) -> Table:
    """A table without lines; columns that begin with `_LABEL` are names."""
    from rich.table import Table

    table = Table.grid(padding=(0, _GAP, 0, 0))
    for width in widths:
        table.add_column(min_width=width, style="dim" if width == _LABEL else "", no_wrap=True)
    return table


def _short(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"


def _change(name: str, value: float, older: float | None) -> Text:
    """With its sign; of a loss, green is down."""
    from rich.text import Text

    if older is None:
        return Text("")
    style = ""
    if "loss" in name and value != older:
        style = "green" if value < older else "red"
    return Text(f"{value - older:+.2g}", style=style)
