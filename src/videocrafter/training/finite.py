"""Stops a run whose loss or gradient is no longer a number, before anything bad is saved."""

from __future__ import annotations

import torch
from torch import Tensor


class NonFiniteError(ValueError):
    """The loss or the gradient norm became infinite or not a number."""


class FiniteGuard:
    """Watches scalars.

    On the CPU a bad one raises at once, before the weights are touched. On an accelerator a look would stall
    every step, so the first bad step is noted there and read by `raise_if_bad`.

    Args:
        stage: for the message.
        device: where the watched scalars live.
    """

    def __init__(self, stage: str, device: torch.device) -> None:
        self._stage = stage
        self._immediate = device.type == "cpu"
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=device)

    def watch(self, step: int, what: str, value: Tensor) -> None:
        """Look at `value` of step number `step` (from 1).

        Raises:
            NonFiniteError: on the CPU, if it is not finite.
        """
        value = value.detach()
        if self._immediate:
            if not torch.isfinite(value):
                raise self._error(step, f"the {what} is {value.item()}")
            return
        first_here = (self._first_bad < 0) & ~torch.isfinite(value)
        self._first_bad = torch.where(first_here, step, self._first_bad)

    def raise_if_bad(self) -> None:
        """Call before saving.

        Raises:
            NonFiniteError: a watched value was not finite.
        """
        if not self._immediate and (step := int(self._first_bad)) >= 0:
            raise self._error(step, "the loss or the gradient is not finite")

    def _error(self, step: int, what: str) -> NonFiniteError:
        return NonFiniteError(
            f"stage {self._stage!r}, step {step}: {what}. Nothing of this step was saved. Lower the "
            "learning rate, lengthen the warm-up or use precision fp32, and give the same command with "
            "--accept-changes: it goes on from the last checkpoint"
        )
