"""Samples that are left out: counted by reason, named in a report, and the end of a run if there are too many."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videocrafter.data.errors import UNSUITED, TooManyBadSamplesError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BadSampleRules:
    """When bad samples stop a run.

    Attributes:
        max_bad_share: the share of samples that may be damaged, without caption, or the like. Chance is allowed
            for: a run stops when there are clearly more, and the earlier the more there are.
        max_left_out_share: the same for all that are left out, those that are whole but too short or too small
            included.
        window: the shares are those of so many samples, the latest ones.
        report: a JSON Lines file that names every sample that was left out; None writes none.
    """

    max_bad_share: float = 0.05
    max_left_out_share: float = 0.5
    window: int = 1000
    report: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_bad_share", "max_left_out_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a share between 0 and 1")
        if self.window < 1:
            raise ValueError(f"window is {self.window}, expected 1 or more samples")

    def of_process(self, rank: int, world_size: int) -> BadSampleRules:
        """The same, with a report of the process's own where there are several."""
        if self.report is None or world_size == 1:
            return self
        path = Path(self.report)
        return replace(self, report=str(path.with_name(f"{path.stem}.rank{rank}{path.suffix}")))


class _Share:
    """A share of the latest samples in two numbers: a mean that forgets what is older than its window."""

    def __init__(self, window: int) -> None:
        self._window = window
        self.num, self.mean = 0, 0.0

    def add(self, hit: bool) -> None:
        self.num = min(self.num + 1, self._window)
        self.mean += (hit - self.mean) / self.num

    def is_clearly_above(self, share: float) -> bool:
        """Whether so many would be an accident of less than one in a thousand, were `share` the truth."""
        expected = share * self.num
        most = expected + 3 * math.sqrt(expected) + (2 if share > 0 else 0)
        return self.mean * self.num > most + 1e-9


class BadSamples:
    """Counts samples in their order, and raises when too many are bad."""

    def __init__(self, rules: BadSampleRules) -> None:
        self.rules = rules
        self.counts: Counter[str] = Counter()
        self.num_good = 0
        self._bad, self._left_out = _Share(rules.window), _Share(rules.window)
        self._num_in_a_row = 0
        self._named: set[tuple[str, str, str]] = set()

    def good(self) -> None:
        """Count a sample that was used."""
        self.num_good += 1
        self._num_in_a_row = 0
        self._bad.add(False)
        self._left_out.add(False)

    def bad(self, source: str, key: str, reason: str, message: str) -> None:
        """Count a sample that was left out, and name it in the report if this is the first time.

        Raises:
            TooManyBadSamplesError: that was one too many.
        """
        self.counts[reason] += 1
        self._num_in_a_row += 1
        self._bad.add(reason not in UNSUITED)
        self._left_out.add(True)
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
                f"the last {self._num_in_a_row} samples were all left out{self._why(message)}"
            )

    def state(self) -> dict[str, Any]:
        """What has to be remembered over a break, as JSON values."""
        return {
            "counts": dict(self.counts),
            "num_good": self.num_good,
            "in_a_row": self._num_in_a_row,
            "bad": [self._bad.num, self._bad.mean],
            "left_out": [self._left_out.num, self._left_out.mean],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.counts, self.num_good = Counter(state["counts"]), state["num_good"]
        self._num_in_a_row = state["in_a_row"]
        self._bad.num, self._bad.mean = state["bad"]
        self._left_out.num, self._left_out.mean = state["left_out"]

    def _too_many(self, share: _Share, most: float, name: str, message: str) -> TooManyBadSamplesError:
        return TooManyBadSamplesError(
            f"{share.mean:.1%} of the last {share.num} samples had to be left out, and {name} allows {most:.1%}"
            f"{self._why(message)}, or raise {name}"
        )

    def _why(self, message: str) -> str:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in self.counts.most_common())
        report = f"; {self.rules.report} names them all" if self.rules.report else ""
        return f" ({reasons}; the latest: {message}){report}; mend the data"

    def _write(self, line: dict[str, str]) -> None:
        if self.rules.report is None:
            return
        path = Path(self.rules.report)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            # A full disk must not end a run for the sake of a report.
            _log.warning("cannot write %s (%s); left out: %s", path, error, line)
