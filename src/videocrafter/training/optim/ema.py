"""An exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.training.config import SettingsError
from videocrafter.training.parallel.sharding import own_part, part_of, sharded_like


class ExponentialMovingAverage:
    """Averages parameters, after n updates with decay min(decay, (1 + n) / (10 + n)).

    The rising decay forgets the random start quickly. Of sharded parameters each process averages its own part.

    Args:
        parameters: by name; the average starts as a copy of them.
        decay: in (0, 1).
        device: where the averages are kept; None is beside the parameters. Elsewhere, each update copies all weights.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], decay: float, device: torch.device | None = None
    ) -> None:
        self.decay = decay
        self.num_updates = 0
        self._parameters = dict(parameters)
        self._averages: dict[str, Tensor] = {
            name: own_part(parameter).detach().to(device, copy=True) for name, parameter in parameters.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the parameters by one step."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        near: tuple[list[Tensor], list[Tensor]] = ([], [])
        for average, value in self._pairs():
            if average.device == value.device:
                near[0].append(average)
                near[1].append(value)
            else:
                average.lerp_(value.to(average.device), 1 - decay)
        if near[0]:
            # The public API has no fused interpolation over many tensors; one call per tensor would cost more
            # than the arithmetic for networks of many small parameters.
            torch._foreach_lerp_(*near, 1 - decay)
        self.num_updates += 1

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Inside, the parameters hold the average, and the other way round."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        # Contents change places, not storage: sharded parameters are gathered from where they always lay.
        for average, value in self._pairs():
            held = value.clone()
            value.copy_(average)
            average.copy_(held)

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each average with what its parameter holds, as far as this process has it."""
        for name, parameter in self._parameters.items():
            yield self._averages[name], own_part(parameter).detach()

    def state_dict(self) -> dict[str, Any]:
        """Number of updates and averages by parameter name; those of sharded parameters are sharded."""
        averages = {name: sharded_like(self._averages[name], like) for name, like in self._parameters.items()}
        return {"num_updates": self.num_updates, "averages": averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict` with whole averages.

        Raises:
            SettingsError: the state is of other parameters.
        """
        averages: Mapping[str, Tensor] = state["averages"]
        if list(averages) != list(self._averages):
            raise SettingsError("the saved average is of other parameters than the ones being trained")
        self.num_updates = int(state["num_updates"])
        for name, parameter in self._parameters.items():
            self._averages[name].copy_(part_of(averages[name], parameter))
