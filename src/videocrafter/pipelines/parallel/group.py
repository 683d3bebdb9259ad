"""The processes that share a video, and the exchange of tensors between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Group:
    """Processes of `torch.distributed`, which must be initialised.

    Tensors travel as bytes, because not every backend knows every dtype.

    Attributes:
        handle: the process group; None for all processes.
    """

    handle: Any = field(default=None, repr=False)

    @property
    def index(self) -> int:
        """Number of this process, from 0."""
        return torch.distributed.get_rank(self.handle)

    @property
    def count(self) -> int:
        """Number of processes."""
        return torch.distributed.get_world_size(self.handle)

    def gather(self, part: Tensor) -> list[Tensor]:
        """Return the parts of all processes, of equal shapes, in order. Collective."""
        own = part.contiguous()
        parts = [torch.empty_like(own) for _ in range(self.count)]
        torch.distributed.all_gather([_bytes(one) for one in parts], _bytes(own), group=self.handle)
        return parts

    def exchange(self, parts: Tensor) -> Tensor:
        """Send `parts[i]` to process i; entry i of the result is what process i sent. Collective."""
        own = parts.contiguous()
        received = torch.empty_like(own)
        torch.distributed.all_to_all_single(_bytes(received), _bytes(own), group=self.handle)
        return received

    def total(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes. Collective."""
        value = value.contiguous()
        torch.distributed.all_reduce(value, group=self.handle)
        return value


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.view(-1).view(torch.uint8) if tensor.dim() else tensor.view(1).view(torch.uint8)
