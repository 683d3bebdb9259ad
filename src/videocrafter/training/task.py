"""The interface between the training loop and a task: one stage's networks, data and loss.

The loop knows no model. A stage's config holds a *task config*, a frozen dataclass that is saved with the run;
`registry.py` maps it to the *task*. Everything random in a task is a pure function of its arguments (seed, stage,
step, micro step, generator), so that a killed run resumes from its last checkpoint with the same results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Batch: TypeAlias = Any
"""Returned by `Task.batch` and read by `Task.loss`, on the task's device. The loop only passes it on."""


class Task(Protocol):
    """One stage's networks, data and loss."""

    def modules(self) -> Mapping[str, nn.Module]:
        """Networks that this stage trains or saves, by unique name; saved whole for resuming."""

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The trainable parameters. All others of `modules` have `requires_grad=False` from construction."""

    def batch(self, step: int, micro_step: int = 0) -> Batch:
        """Data of one forward pass: a pure function of (seed, stage, step, micro_step).

        Args:
            step: optimizer steps taken before this one, from 0.
            micro_step: index of the pass among the `accumulate` passes of this step, from 0.
        """

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Scalar loss to minimise, and scalars for the log.

        All explicit randomness comes from `generator` (on the task's device). The global generators are
        seeded for each pass, for dropout.
        """

    def names(self, batch: Batch) -> Sequence[str]:
        """Names of the samples in a batch, for the record of bad batches; empty if the step identifies them."""

    def num_samples(self, batch: Batch) -> int:
        """Samples (clips or images) in a batch, for samples per second."""

    def validate(self) -> Mapping[str, float]:
        """Scalars measured on fixed data. Called with EMA weights, in eval mode, without gradients."""

    def write_samples(self, folder: Path) -> None:
        """Write sample sheets into `folder`, which exists. Called like `validate`."""

    def save_pipeline(self, folder: Path) -> None:
        """Write a folder (it exists, empty) that the pipelines load. Called with EMA weights."""


@runtime_checkable
class ReadsInOrder(Protocol):
    """Additional methods of a task whose data can only be read in order, such as files.

    Its `batch` is called with increasing (step, micro step), or with the last one again.
    """

    def open_data(self, rank: int, world_size: int, report_folder: Path) -> None:
        """Open the data, as one process of several; called once, before any other use of the data.

        Args:
            report_folder: folder for the record of unusable samples.

        Raises:
            ValueError: the data cannot be used as described.
        """

    def data_state(self) -> dict[str, Any]:
        """This process's position in the data after the last batch, as JSON values."""

    def load_data_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Resume from these positions, one per process of any number of processes. Called before the first batch.

        Raises:
            DataMismatchError: the positions belong to other data; the next batch is then the first of these data.
            ValueError: they are not positions of a run.
        """

    def close_data(self) -> None:
        """Stop the readers."""


@runtime_checkable
class MayBeSharded(Protocol):
    """An additional attribute of a task whose networks may be sharded over processes.

    A sharded network is only used by calling it, in all processes alike and for the same kind of batch;
    `save_pipeline` calls none. `validate` and `write_samples` then run in every process and must do the same there.

    Attributes:
        shardable_modules: names in `modules` of the networks that are large enough to shard.
    """

    shardable_modules: Sequence[str]


@runtime_checkable
class FollowsSteps(Protocol):
    """An additional method of a task whose loss depends on the step, or that keeps averages of its own."""

    def begin_step(self, step: int) -> None:
        """Called before the passes of every step, in every process; again if a step is repeated.

        Args:
            step: optimizer steps taken before this one, from 0.
        """


class TaskConfig(Protocol):
    """A frozen dataclass with the settings of a task."""

    def validation_metrics(self) -> Sequence[str]:
        """Names of all metrics that the task's `validate` returns, to check a metric's name before the first step."""
