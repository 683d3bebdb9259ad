"""fp16 knows no number below 6e-8, so losses are scaled up and gradients down again, by as much as goes well.

The scale follows `torch.amp.GradScaler`'s rule. It is kept here because the norm of the gradient tells whether any
number overflowed in any process's part, while GradScaler looks at what one process holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_START = 2.0**16
_LARGEST = 2.0**24
_STEPS_TO_GROW = 2000


class LossScale:
    """What losses are multiplied by.

    Args:
        enabled: off, the scale is 1 and every step is somebody else's concern.
    """

    def __init__(self, *, enabled: bool = False) -> None:
        self.enabled = enabled
        self.value = _START if enabled else 1.0
        self._good_steps = 0

    def overflowed(self, norm: float) -> bool:
        """Whether a step has to be left out because the scale was too large; it is halved then.

        At a scale of 1 it never was: a gradient that is no number is bad in itself.

        Args:
            norm: of the step's gradient; each step is told once.
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
        """The scale, and the good steps since it changed."""
        return {"value": self.value, "good_steps": self._good_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`."""
        self.value, self._good_steps = state["value"], state["good_steps"]
