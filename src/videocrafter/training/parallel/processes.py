"""Data-parallel training over several processes, initialised through accelerate.

Each process runs its share of a step's micro steps, and gradients are averaged, so that a step is equivalent for any
number of processes; networks need no wrapper. Work that only one process does is wrapped in `together`: an error in
one process is raised in all of them, and none is left waiting.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch
from torch import Tensor, nn

from videocrafter.training.config import SettingsError
from videocrafter.training.parallel.sharding import is_sharded

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

Value = TypeVar("Value")

BUCKET_ELEMENTS = 1 << 24
"""Gradient elements per all-reduce; a larger tensor is sent by itself."""


class OtherProcessError(RuntimeError):
    """Another process failed; the message gives its reason."""


class Processes:
    """This process and its group, as started by `accelerate launch` or torchrun; a group of one otherwise.

    Args:
        device: where to train; None takes a GPU if there is one, else the CPU.
    """

    def __init__(self, device: torch.device | str | None = None) -> None:
        self.index, self.count = 0, 1
        if launched_processes() > 1:
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

    @cached_property
    def mesh(self) -> DeviceMesh:
        """One-dimensional mesh of all processes, for sharding; needs more than one process."""
        from torch.distributed.device_mesh import init_device_mesh

        return init_device_mesh(self.device.type, (self.count,))

    def micro_steps(self, accumulate: int) -> range:
        """Return this process's share of a step's forward passes; see `check_shared`."""
        return range(self.index, accumulate, self.count)

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average gradients over the processes, in place; FSDP has already averaged those of sharded parameters.

        A parameter that no process used gets no gradient. A process that did not use a parameter contributes zero.
        """
        whole = [parameter for parameter in parameters if not is_sharded(parameter)]
        if self.count == 1 or not whole:
            return
        used = torch.tensor([parameter.grad is not None for parameter in whole], dtype=torch.uint8)
        used = used.to(self.device)
        torch.distributed.all_reduce(used, torch.distributed.ReduceOp.MAX)
        gradients = []
        for parameter, is_used in zip(whole, used.tolist(), strict=True):
            if is_used:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                gradients.append(parameter.grad)
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            torch.distributed.all_reduce(flat)
            flat /= self.count
            parts = torch.split(flat, [gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def any(self, flag: bool) -> bool:
        """Collective: return whether the flag is set in any process."""
        if self.count == 1:
            return flag
        shared = torch.tensor(int(flag), device=self.device)
        torch.distributed.all_reduce(shared)
        return bool(shared.item())

    def gather(self, value: Value) -> list[Value]:
        """Collective: return every process's value, by rank; values are pickled."""
        if self.count == 1:
            return [value]
        gathered: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(gathered, value)
        return gathered

    def same_as_main(self, value: Value) -> Value:
        """Collective: return the main process's value in all processes."""
        return self.gather(value)[0]

    def main_number(self, number: Tensor) -> Tensor:
        """Collective: overwrite a tensor with the main process's, so that all processes make the same decisions."""
        if self.count > 1:
            torch.distributed.broadcast(number, src=0)
        return number

    def wait(self) -> None:
        """Wait until every process has called this."""
        if self.count > 1:
            torch.distributed.barrier()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Collective: run a block in all processes and fail in all of them if one fails.

        The block itself must not contain collectives.

        Raises:
            OtherProcessError: another process raised an error. An error of this process is re-raised unchanged.
        """
        failed: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001  re-raised below, after the others are notified
            failed = error
        reasons = self.gather(None if failed is None else f"process {self.index} stopped: {failed}")
        if failed is not None:
            raise failed
        for reason in reasons:
            if reason is not None:
                raise OtherProcessError(reason)


def check_shared(accumulate: int, count: int) -> None:
    """Check that the passes of a step can be divided evenly among `count` processes.

    Raises:
        SettingsError: they cannot.
    """
    if accumulate % count:
        raise SettingsError(
            f"optimizer.accumulate is {accumulate}, expected a multiple of {count}, the number of processes; "
            f"set it to {-(-accumulate // count) * count}"
        )


def launched_processes() -> int:
    """Return the number of processes started by `accelerate launch` or torchrun; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Group tensors for all-reduce: large enough to be fast, small enough to copy."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(other.numel() for other in bucket) + tensor.numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def end_process(status: int) -> NoReturn:
    """Exit a distributed process immediately, without Python's shutdown.

    During shutdown, gloo threads outlive their process group and occasionally abort a process that finished normally.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
