"""The processes that train together, through accelerate where there is more than one.

Each process takes its share of a step's micro steps and gradients are averaged, so that a step means the same
however many processes run it; networks need no wrapper.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from videocrafter.training.config import SettingsError

Value = TypeVar("Value")


class Processes:
    """This process among those that `accelerate launch` (or torchrun) started; alone otherwise.

    Args:
        device: where to train; None takes a GPU if there is one, else the CPU.
    """

    def __init__(self, device: torch.device | str | None = None) -> None:
        self.index, self.count = 0, 1
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            # Slow to import, and only needed here.
            from accelerate import PartialState  # type: ignore[import-untyped]

            on_cpu = not torch.cuda.is_available() if device is None else torch.device(device).type == "cpu"
            state = PartialState(cpu=on_cpu)
            self.index, self.count = state.process_index, state.num_processes
            self.device: torch.device = state.device
        elif device is not None:
            self.device = torch.device(device)
        else:
            self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and logs."""
        return self.index == 0

    def micro_steps(self, accumulate: int) -> range:
        """This process's share of a step's forward passes.

        Raises:
            SettingsError: they cannot be shared evenly.
        """
        if accumulate % self.count:
            raise SettingsError(
                f"optimizer.accumulate is {accumulate}, which {self.count} processes cannot share evenly; "
                f"set it to a multiple of {self.count}"
            )
        return range(self.index, accumulate, self.count)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up gradients over the processes, in place."""
        if self.count == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, part in zip(gradients, torch.split(flat, sizes), strict=True):
            gradient.copy_(part.view_as(gradient))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process, so that all stop or save together."""
        if self.count == 1:
            return flag
        shared = torch.tensor(int(flag), device=self.device)
        torch.distributed.all_reduce(shared)
        return bool(shared.item())

    def gather(self, value: Value) -> list[Value]:
        """Every process's value, by rank; values are pickled on their way."""
        if self.count == 1:
            return [value]
        gathered: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(gathered, value)
        return gathered

    def same_as_main(self, value: Value) -> Value:
        """The main process's value, in all processes."""
        return self.gather(value)[0]

    def wait(self) -> None:
        """Return when every process is here."""
        if self.count > 1:
            torch.distributed.barrier()
