"""Dynamic loss scaling for fp16, whose smallest number is 6e-8.

The scale follows the rule of `torch.amp.GradScaler`. That class checks one process's gradients only, whereas the
gradient norm used here reveals an overflow in the shard of any process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_START = 2.0**16
_LARGEST = 2.0**24
_STEPS_TO_GROW = 2000


class LossScale:
    """The factor that losses are multiplied by.

    Args:
        enabled: if False, the scale stays 1 and overflows are not handled.
    """

    def __init__(self, *, enabled: bool = False) -> None:
        self.enabled = enabled
        self.value = _START if enabled else 1.0
        self._good_steps = 0

    def overflowed(self, norm: float) -> bool:
        """Return whether a step must be skipped because the scale was too large, and adjust the scale.

        At a scale of 1 this is False: a non-finite gradient is then not caused by the scale.

        Args:
            norm: gradient norm of the step; call this once per step.
        """
        if not self.enabled:
            return False
        if math.isfinite(norm):
            self._good_steps += 1
            if self._good_steps == _STEPS_TO_GROW:
                self.value, self._good_steps = min(_LARGEST, 2 * self.value), 0
            return False
        if self.value <= 1:
            return False
        self.value, self._good_steps = max(1.0, self.value / 2), 0
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return the scale and the number of good steps since it changed."""
        return {"value": self.value, "good_steps": self._good_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`."""
        self.value, self._good_steps = state["value"], state["good_steps"]
