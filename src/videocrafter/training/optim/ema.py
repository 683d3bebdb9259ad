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
    """Averages parameters with decay min(decay, (1 + n) / (10 + n)) after n updates.

    The rising decay quickly forgets the random initialisation. Each process averages its own shards.

    Args:
        parameters: by name; the average starts as a copy.
        decay: in (0, 1).
        device: of the averages; None keeps them with the parameters. Another device costs a copy of all weights per
            update.
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
            # The public API has no multi-tensor lerp, and one call per tensor is slow for many small parameters.
            torch._foreach_lerp_(*near, 1 - decay)
        self.num_updates += 1

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Within the context, swap the parameters and their averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        # Swap contents, not storage: FSDP gathers sharded parameters from their original storage.
        for average, value in self._pairs():
            held = value.clone()
            value.copy_(average)
            average.copy_(held)

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each average with the local shard of its parameter."""
        for name, parameter in self._parameters.items():
            yield self._averages[name], own_part(parameter).detach()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of updates and the averages by parameter name, sharded like the parameters."""
        averages = {name: sharded_like(self._averages[name], like) for name, like in self._parameters.items()}
        return {"num_updates": self.num_updates, "averages": averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict` with unsharded averages.

        Raises:
            SettingsError: the state belongs to other parameters.
        """
        averages: Mapping[str, Tensor] = state["averages"]
        if list(averages) != list(self._averages):
            raise SettingsError("the saved EMA weights belong to other parameters than the ones being trained")
        self.num_updates = int(state["num_updates"])
        for name, parameter in self._parameters.items():
            self._averages[name].copy_(part_of(averages[name], parameter))
