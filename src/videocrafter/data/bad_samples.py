"""Skipped samples: counted by reason, listed in a report, and an error if there are too many."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videocrafter.data.errors import UNSUITABLE, TooManyBadSamplesError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BadSampleRules:
    """Limits on skipped samples.

    Attributes:
        max_bad_share: largest fraction of samples that are damaged, have no caption, or the like. A run stops when
            the fraction is significantly larger, so it stops sooner the more samples are bad.
        max_left_out_share: the same for all skipped samples, including intact ones that are too short or too small.
        window: number of most recent samples to which the fractions refer.
        report: JSON Lines file that lists each skipped sample once per reason, also across resumes; None writes none.
    """

    max_bad_share: float = 0.05
    max_left_out_share: float = 0.5
    window: int = 1000
    report: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_bad_share", "max_left_out_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a fraction from 0 to 1")
        if self.window < 1:
            raise ValueError(f"window is {self.window}, expected 1 or more samples")

    def of_process(self, rank: int, world_size: int) -> BadSampleRules:
        """Return the same rules with a separate report for this process if there are several."""
        if self.report is None or world_size == 1:
            return self
        path = Path(self.report)
        return replace(self, report=str(path.with_name(f"{path.stem}.rank{rank}{path.suffix}")))


class _Share:
    """A fraction of recent samples, as a running mean that forgets samples older than its window."""

    def __init__(self, window: int) -> None:
        self._window = window
        self.num, self.mean = 0, 0.0

    def add(self, hit: bool) -> None:
        self.num = min(self.num + 1, self._window)
        self.mean += (hit - self.mean) / self.num

    def is_clearly_above(self, share: float) -> bool:
        """Return whether the fraction is significantly above `share`: p < 0.001 if `share` were the true one."""
        expected = share * self.num
        most = expected + 3 * math.sqrt(expected) + (2 if share > 0 else 0)
        return self.mean * self.num > most + 1e-9


class BadSamples:
    """Counts good and bad samples, and raises an error when too many are bad."""

    def __init__(self, rules: BadSampleRules) -> None:
        self.rules = rules
        self.counts: Counter[str] = Counter()
        self.num_good = 0
        self._bad, self._left_out = _Share(rules.window), _Share(rules.window)
        self._num_in_a_row = 0
        self._named: set[tuple[str, str, str]] | None = None

    def good(self) -> None:
        """Count a used sample."""
        self.num_good += 1
        self._num_in_a_row = 0
        self._bad.add(False)
        self._left_out.add(False)

    def bad(self, source: str, key: str, reason: str, message: str) -> None:
        """Count a skipped sample, and add it to the report the first time.

        Raises:
            TooManyBadSamplesError: more samples were skipped than the rules allow.
        """
        self.counts[reason] += 1
        self._num_in_a_row += 1
        self._bad.add(reason not in UNSUITABLE)
        self._left_out.add(True)
        if self._named is None:
            self._named = self._read_report()
        if (source, key, reason) not in self._named:
            self._named.add((source, key, reason))
            self._write({"source": source, "key": key, "reason": reason, "message": message})
        rules = self.rules
        for share, most, name in (
            (self._bad, rules.max_bad_share, "max_bad_share"),
            (self._left_out, rules.max_left_out_share, "max_left_out_share"),
        ):
            if share.is_clearly_above(most):
                raise self._too_many(share, most, name, message)
        if self._num_in_a_row >= max(rules.window, 2):
            raise TooManyBadSamplesError(
                f"all of the last {self._num_in_a_row} samples were skipped{self._details(message)}; fix your data"
            )

    def state(self) -> dict[str, Any]:
        """Return the state to save, as JSON values."""
        return {
            "counts": dict(self.counts),
            "num_good": self.num_good,
            "in_a_row": self._num_in_a_row,
            "bad": [self._bad.num, self._bad.mean],
            "left_out": [self._left_out.num, self._left_out.mean],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore `state`."""
        self.counts, self.num_good = Counter(state["counts"]), state["num_good"]
        self._num_in_a_row = state["in_a_row"]
        self._bad.num, self._bad.mean = state["bad"]
        self._left_out.num, self._left_out.mean = state["left_out"]

    def _too_many(self, share: _Share, most: float, name: str, message: str) -> TooManyBadSamplesError:
        return TooManyBadSamplesError(
            f"{share.mean:.1%} of the last {share.num} samples were skipped, but {name} allows {most:.1%}"
            f"{self._details(message)}; fix your data or raise {name}"
        )

    def _details(self, message: str) -> str:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in self.counts.most_common())
        report = f"; all are listed in {self.rules.report}" if self.rules.report else ""
        return f" ({reasons}; the latest: {message}{report})"

    def _read_report(self) -> set[tuple[str, str, str]]:
        """Return source, key and reason of each entry in the report of an earlier run. Damaged lines are ignored."""
        if self.rules.report is None:
            return set()
        named = set()
        try:
            text = Path(self.rules.report).read_text(encoding="utf-8", errors="replace")
        except OSError:  # missing or unreadable; at worst, entries are duplicated
            return set()
        for line in text.split("\n"):
            with suppress(ValueError, LookupError, TypeError):
                entry = json.loads(line)
                named.add((str(entry["source"]), str(entry["key"]), str(entry["reason"])))
        if text and not text.endswith("\n"):
            self._write_text("\n")  # keeps a truncated line from corrupting the next one
        return named

    def _write(self, line: dict[str, str]) -> None:
        if self.rules.report is None:
            return
        self._write_text(json.dumps(line, ensure_ascii=False) + "\n")

    def _write_text(self, text: str) -> None:
        assert self.rules.report is not None
        path = Path(self.rules.report)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError as error:
            # A full disk must not stop a run because of a report.
            _log.warning("cannot write %s (%s); skipped sample: %s", path, error, text.strip())
