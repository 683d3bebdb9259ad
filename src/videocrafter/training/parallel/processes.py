"""The processes that train together, through accelerate where there is more than one.

Each process takes its share of a step's micro steps and gradients are averaged, so that a step means the same
however many processes run it; networks need no wrapper. What one process does alone is done `together` with the
others: what fails in one fails in all, and nobody is left waiting.
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
"""Numbers of gradients that are sent at once, but for tensors that have more by themselves."""


class OtherProcessError(RuntimeError):
    """Another process stopped; it says why."""


class Processes:
    """This process among those that `accelerate launch` (or torchrun) started; alone otherwise.

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
        """All processes along one dimension, to shard over; there have to be several."""
        from torch.distributed.device_mesh import init_device_mesh

        return init_device_mesh(self.device.type, (self.count,))

    def micro_steps(self, accumulate: int) -> range:
        """This process's share of a step's forward passes.

        Raises:
            SettingsError: they cannot be shared evenly.
        """
        check_shared(accumulate, self.count)
        return range(self.index, accumulate, self.count)

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average gradients over the processes, in place; those of sharded parameters are averaged already.

        A parameter that no process used keeps no gradient; to others, one that did not use it gives zero.
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

    def main_number(self, number: Tensor) -> Tensor:
        """The main process's number, in all processes, so that they decide alike; the tensor is overwritten."""
        if self.count > 1:
            torch.distributed.broadcast(number, src=0)
        return number

    def wait(self) -> None:
        """Return when every process is here."""
        if self.count > 1:
            torch.distributed.barrier()

    @contextmanager
    def together(self) -> Iterator[None]:
        """All enter and leave together; inside, none waits for another.

        Raises:
            OtherProcessError: something was raised in another process. What is raised in this one is raised as it is.
        """
        failed: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001  raised again below, when the others know
            failed = error
        reasons = self.gather(None if failed is None else f"process {self.index} stopped: {failed}")
        if failed is not None:
            raise failed
        for reason in reasons:
            if reason is not None:
                raise OtherProcessError(reason)


def check_shared(accumulate: int, count: int) -> None:
    """Find out whether the passes of a step go evenly into so many processes.

    Raises:
        SettingsError: they do not.
    """
    if accumulate % count:
        raise SettingsError(
            f"optimizer.accumulate is {accumulate}, which {count} processes cannot share evenly; "
            f"set it to a multiple of {count}"
        )


def launched_processes() -> int:
    """How many processes `accelerate launch` (or torchrun) started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Groups of neighbours that are sent at once: large enough to be fast, small enough to be copied."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(other.numel() for other in bucket) + tensor.numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def end_process(status: int) -> NoReturn:
    """End a process that trained with others, without Python's own way out.

    Threads of gloo outlive their group there and, now and then, abort a process that has done all it had to.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
