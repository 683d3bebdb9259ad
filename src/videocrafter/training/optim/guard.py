"""Protection of the weights from bad steps: a NaN or infinite loss, or a far too large gradient.

A bad step is skipped. After too many in a row the stage goes back to its last checkpoint and continues with the data
after the bad batches. After too many of those the run stops. Every bad batch is recorded.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import Any

from videocrafter.training.config import GuardConfig

_WINDOW = 100
_ENOUGH = 20


class NonFiniteError(ValueError):
    """The loss or the gradient was NaN, infinite or far too large in too many steps."""


class Verdict(Enum):
    """The decision about a step."""

    GOOD = "good"
    SKIP = "skip"
    OVERFLOW = "overflow"
    """fp16 overflowed because the loss scale was too large; the step is skipped and does not count as bad."""
    ROLL_BACK = "roll back"
    STOP = "stop"


class StepGuard:
    """Judges each step by its gradient norm, which is NaN or infinite if the loss is.

    Args:
        config: limits.
        stage: named in error messages.
    """

    def __init__(self, config: GuardConfig, stage: str) -> None:
        self._config = config
        self._stage = stage
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._bad_in_a_row = 0
        self._reason: str | None = None
        self.skipped = 0
        """Steps skipped so far."""
        self.rollbacks = 0
        """Number of returns to a checkpoint so far."""

    def judge(self, norm: float) -> Verdict:
        """Decide about a step from its gradient norm before clipping."""
        self._reason = self._find_reason(norm)
        if self._reason is None:
            self._recent.append(norm)
            self._bad_in_a_row = 0
            return Verdict.GOOD
        self._bad_in_a_row += 1
        if self._bad_in_a_row <= self._config.skips:
            self.skipped += 1
            return Verdict.SKIP
        return Verdict.ROLL_BACK if self.rollbacks < self._config.rollbacks else Verdict.STOP

    def error(self, step: int, tried: str) -> NonFiniteError:
        """Build the error for step number `step` (from 1) when all attempts are exhausted."""
        return NonFiniteError(
            f"stage {self._stage!r}, step {step}: {self._reason}, after {self._bad_in_a_row - 1} skipped steps in a "
            f"row and {tried}. This step was not saved. See bad_batches.jsonl; lower the learning rate, lengthen "
            "the warm-up or use precision fp32, and resume with --accept-changes"
        )

    def went_back(self, rollbacks: int) -> None:
        """Record that a checkpoint was restored for the `rollbacks`-th time in this stage."""
        self.rollbacks = rollbacks
        self._bad_in_a_row = 0

    def _find_reason(self, norm: float) -> str | None:
        if not math.isfinite(norm):
            return f"the loss or the gradient is not finite (gradient norm {norm})"
        if self._config.spike and len(self._recent) >= _ENOUGH:
            usual = statistics.median(self._recent)
            if norm > self._config.spike * usual:
                return f"the gradient norm is {norm:.3g}, {norm / usual:.3g} times the usual {usual:.3g}"
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return everything that later verdicts depend on."""
        return {
            "recent": list(self._recent),
            "bad_in_a_row": self._bad_in_a_row,
            "skipped": self.skipped,
            "rollbacks": self.rollbacks,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`."""
        self._recent = deque(state["recent"], maxlen=_WINDOW)
        self._bad_in_a_row, self.skipped = state["bad_in_a_row"], state["skipped"]
        self.rollbacks = state["rollbacks"]
