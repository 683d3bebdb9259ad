"""A live view of a stage in the terminal: progress, metrics with their trend, and warnings."""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from videocrafter.training.tracking.log_keys import LOG_KEYS
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
    """A rich renderable of a `StageStatus`.

    Args:
        now: seconds since 1970, used to compute ages; None takes the present time.
    """

    def __init__(self, status: StageStatus, now: float | None = None) -> None:
        self._status = status
        self._now = now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the parts from top to bottom, each no wider than the terminal."""
        from rich.text import Text

        width = options.max_width
        yield Text(f"{self._status.title}: {self._status.activity}", style="bold")
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
            # At most two lines: the full message was logged above the view.
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
        # Rounded down, so that only the last step shows 100 %.
        line.add_row(
            ProgressBar(total=total, completed=step),
            f"{100 * step // total} %, step {status.step} of {status.num_steps}{left}",
        )
        return line

    def _curves(self, width: int, *, with_bars: bool) -> Table:
        """Build a table of the metrics, each with its latest value and a sparkline."""
        history = self._status.history
        names = sorted(history, key=lambda name: name != "loss")[:_MOST_CURVES]  # the loss first, the rest as logged
        room = min(_MOST_BARS, width - max(_LABEL, *map(len, names)) - _VALUE - 3 * _GAP) if with_bars else 0
        table = _grid(_LABEL, _VALUE, 0)
        for name in names:
            values = list(history[name])
            table.add_row(name, _short(values[-1]), sparkline(values[-room:]) if room > 0 else "")
        return table

    def _facts(self, *, pairs: int) -> Table:
        """Build a table of the run's own numbers, several to a line."""
        numbers = self._status.numbers
        facts = [
            (key.label, key.format(numbers[key.name]) + key.unit)
            for key in LOG_KEYS.values()
            if key.label is not None and key.name in numbers
        ]
        facts.append(("checkpoint", self._checkpoint()))
        table = _grid(*(_LABEL, _FACT) * pairs)
        for first in range(0, len(facts), pairs):
            table.add_row(*(cell for fact in facts[first : first + pairs] for cell in fact))
        return table

    def _checkpoint(self) -> str:
        if self._status.saved is None:
            return "none yet"
        step, at = self._status.saved
        now = time.time() if self._now is None else self._now
        return f"step {step}, {format_duration(max(0.0, now - at))} ago"

    def _validation(self, width: int) -> Iterable[Text | Table]:
        """Show the newest validation metrics, each with its change since the previous validation."""
        from rich.text import Text

        (step, newest), before = self._status.validation[-1], self._status.validation[:-1]
        older = before[0][1] if before else {}
        yield Text(f"validation, step {step}" + (f", change since step {before[0][0]}" if before else ""))
        cells: list[str | Text] = []
        for name, value in newest.items():
            cells += [name, _short(value), _change(name, value, older.get(name))]
        columns = max(1, width // (max(map(len, newest), default=0) + _VALUE + 14))
        table = _grid(*(_LABEL, 0, 0) * columns)
        for first in range(0, len(cells), 3 * columns):
            table.add_row(*cells[first : first + 3 * columns])
        yield table


def sparkline(values: Sequence[float]) -> str:
    """Draw values as bars between their minimum and maximum; NaN and infinity are blanks."""
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
    """Build a table without borders; columns of width `_LABEL` hold names."""
    from rich.table import Table

    table = Table.grid(padding=(0, _GAP, 0, 0))
    for width in widths:
        table.add_column(min_width=width, style="dim" if width == _LABEL else "", no_wrap=True)
    return table


def _short(value: float) -> str:
    return f"{value:.4g}"


def _change(name: str, value: float, older: float | None) -> Text:
    """Format a change with its sign; for a loss, a decrease is green and an increase red."""
    from rich.text import Text

    if older is None:
        return Text("")
    style = ""
    if "loss" in name and value != older:
        style = "green" if value < older else "red"
    return Text(f"{value - older:+.2g}", style=style)
