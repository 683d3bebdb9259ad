"""An exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.training.config import SettingsError


class ExponentialMovingAverage:
    """Averages parameters, after n updates with decay min(decay, (1 + n) / (10 + n)).

    The rising decay forgets the random start quickly.

    Args:
        parameters: by name; the average starts as a copy of them.
        decay: in (0, 1).
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self._names = list(parameters)
        self._parameters = list(parameters.values())
        self._averages: list[Tensor] = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the parameters by one step."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        values = [parameter.detach() for parameter in self._parameters]
        # The public API has no fused interpolation over many tensors; one call per tensor would cost more
        # than the arithmetic for networks of many small parameters.
        torch._foreach_lerp_(self._averages, values, 1 - decay)
        self.num_updates += 1

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Inside, the parameters hold the average. Swaps storage and copies nothing."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for index, parameter in enumerate(self._parameters):
            current = parameter.data
            parameter.data = self._averages[index]
            self._averages[index] = current

    def state_dict(self) -> dict[str, Any]:
        """Number of updates and averages by parameter name."""
        return {
            "num_updates": self.num_updates,
            "averages": dict(zip(self._names, self._averages, strict=True)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`.

        Raises:
            SettingsError: the state is of other parameters.
        """
        averages: Mapping[str, Tensor] = state["averages"]
        if list(averages) != self._names:
            raise SettingsError("the saved average is of other parameters than the ones being trained")
        self.num_updates = int(state["num_updates"])
        for mine, name in zip(self._averages, self._names, strict=True):
            mine.copy_(averages[name])
