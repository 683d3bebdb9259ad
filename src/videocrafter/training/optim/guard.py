"""Keeps a bad step out of the weights: a loss that is no number, or a gradient that is far too large.

Such a step is skipped. After too many in a row the stage goes back to its last checkpoint, and its data go on behind
the bad batches. After too many of these the run stops. Every bad batch is written down.
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
    """Step after step the loss or the gradient was no number, or far too large."""


class Verdict(Enum):
    """What is to be done with a step."""

    GOOD = "good"
    SKIP = "skip"
    OVERFLOW = "overflow"
    """Of fp16, at too large a scale of the loss: left out, and no sign of trouble."""
    ROLL_BACK = "roll back"
    STOP = "stop"


class StepGuard:
    """Judges each step by its gradient norm, which is no number where the loss is none.

    Args:
        config: how much is borne.
        stage: for the message.
    """

    def __init__(self, config: GuardConfig, stage: str) -> None:
        self._config = config
        self._stage = stage
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._bad_in_a_row = 0
        self._trouble: str | None = None
        self.skipped = 0
        """Steps skipped so far."""
        self.rollbacks = 0
        """How often the stage went back."""

    def judge(self, norm: float) -> Verdict:
        """What to do with a step whose gradient norm before clipping is `norm`."""
        self._trouble = self._find_trouble(norm)
        if self._trouble is None:
            self._recent.append(norm)
            self._bad_in_a_row = 0
            return Verdict.GOOD
        self._bad_in_a_row += 1
        if self._bad_in_a_row <= self._config.skips:
            self.skipped += 1
            return Verdict.SKIP
        return Verdict.ROLL_BACK if self.rollbacks < self._config.rollbacks else Verdict.STOP

    def error(self, step: int, tried: str) -> NonFiniteError:
        """What to raise in step number `step` (from 1), where nothing is left to try."""
        return NonFiniteError(
            f"stage {self._stage!r}, step {step}: {self._trouble}, after {self._bad_in_a_row - 1} skipped steps in a "
            f"row and {tried}. Nothing of this step was saved. See bad_batches.jsonl; lower the learning rate, "
            "lengthen the warm-up or use precision fp32, and give the same command with --accept-changes"
        )

    def went_back(self, rollbacks: int) -> None:
        """The state of a checkpoint was restored, for the `rollbacks`-th time in this stage."""
        self.rollbacks = rollbacks
        self._bad_in_a_row = 0

    def _find_trouble(self, norm: float) -> str | None:
        if not math.isfinite(norm):
            return f"the loss or the gradient is not finite (gradient norm {norm})"
        if self._config.spike and len(self._recent) >= _ENOUGH:
            usual = statistics.median(self._recent)
            if norm > self._config.spike * usual:
                return f"the gradient norm is {norm:.3g}, {norm / usual:.3g} times the usual {usual:.3g}"
        return None

    def state_dict(self) -> dict[str, Any]:
        """Everything that later verdicts depend on."""
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
