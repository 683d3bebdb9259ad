"""The work of a stage, as data that a plan measures: a task without weights and its kinds of passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor, nn

from videocrafter.training.task import MayBeSharded, Task
from videocrafter.training.video.planned_start import PlannedStart

Checkpoint: TypeAlias = Callable[..., Any]
"""A function for `enable_gradient_checkpointing`, called with a layer and its inputs."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A computation without gradients.

    Attributes:
        run: creates the inputs and calls the network.
        times: number of calls per batch.
        held: bytes in use in addition to those that `run` creates.
    """

    run: Callable[[], object]
    times: float = 1.0
    held: int = 0


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One forward and backward pass.

    Attributes:
        name: "clips" or "images".
        share: share of the passes that are of this kind.
        num_samples: size of the batch.
        loss: creates an encoded batch and computes the task's loss.
        encoders: the calls of the frozen networks that encode the batch, by network.
        held: bytes of the batch itself in main memory.
    """

    name: str
    share: float
    num_samples: int
    loss: Callable[[], Tensor]
    encoders: Mapping[str, Call] = field(default_factory=dict)
    held: int = 0


@dataclass(frozen=True, kw_only=True)
class StageWork:
    """A stage's task on the meta device, and what is computed with it.

    Attributes:
        task: the task that training builds, with networks in the precision in which they are kept.
        frozen: the frozen encoders.
        frozen_stay: whether these are on the device during training.
        passes: the kinds of passes.
        samples: the calls that make samples, one after the other.
        data_bytes: bytes of data that are kept on the device.
        leaves: the start of the next stage; None if it does not depend on this stage.
        checkpointed: wraps a function for gradient checkpointing, for networks that change between calls.
    """

    task: Task
    frozen: Mapping[str, nn.Module] = field(default_factory=dict)
    frozen_stay: bool = True
    passes: tuple[Pass, ...]
    samples: Mapping[str, Call] = field(default_factory=dict)
    data_bytes: int = 0
    leaves: PlannedStart | None = None
    checkpointed: Callable[[Checkpoint], Checkpoint] = lambda function: function

    @property
    def trained(self) -> Mapping[str, nn.Module]:
        """The task's networks: those with trainable parameters, and those saved along with them."""
        return self.task.modules()

    @property
    def shardable(self) -> tuple[str, ...]:
        """Names of the networks that `parallel.sharding` shards."""
        return tuple(self.task.shardable_modules) if isinstance(self.task, MayBeSharded) else ()

    @property
    def samples_per_pass(self) -> float:
        """Clips or images per pass, on average."""
        return sum(one.share * one.num_samples for one in self.passes)
