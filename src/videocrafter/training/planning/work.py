"""What a stage computes, as data: its networks without weights, its passes, the frozen networks before them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from videocrafter.training.planning.start import Start

META = torch.device("meta")


@dataclass(frozen=True, kw_only=True)
class Call:
    """A computation without gradients.

    Attributes:
        run: makes its inputs and calls the network.
        times: how often, for one batch.
        held: bytes that are there beside what `run` makes.
    """

    run: Callable[[], object]
    times: float = 1.0
    held: int = 0


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One forward and backward pass.

    Attributes:
        name: "clips" or "images".
        share: of the passes that are of this kind.
        num_samples: in the batch.
        loss: makes what the frozen networks give and computes the loss.
        encoders: the frozen networks' part, by network.
        held: bytes of the batch itself, which the data loader made in main memory.
    """

    name: str
    share: float
    num_samples: int
    loss: Callable[[], Tensor]
    encoders: Mapping[str, Call] = field(default_factory=dict)
    held: int = 0


@dataclass(frozen=True, kw_only=True)
class StageWork:
    """A stage's networks, in the types in which they are kept, and what is done with them.

    Attributes:
        trained: networks that learn, at least in part, and those that are saved with them.
        frozen: networks before them.
        shardable: names of trained networks that `parallel.sharding` shares out.
        frozen_stay: whether the frozen networks are on the device while training.
        passes: the kinds of passes.
        samples: what making samples calls, one after the other.
        checkpointed: whether the layers of the video network are computed again in the backward pass.
        data_bytes: what is kept of the data on the device.
        leaves: what the next stage starts from; None if that does not depend on this one.
    """

    trained: Mapping[str, nn.Module]
    frozen: Mapping[str, nn.Module] = field(default_factory=dict)
    shardable: tuple[str, ...] = ()
    frozen_stay: bool = True
    passes: tuple[Pass, ...]
    samples: Mapping[str, Call] = field(default_factory=dict)
    checkpointed: bool = False
    data_bytes: int = 0
    leaves: Start | None = None

    @property
    def samples_per_pass(self) -> float:
        """Clips or images in a pass, on average."""
        return sum(one.share * one.num_samples for one in self.passes)
