"""What a training stage asks of the model that it trains.

The loop knows no model. A stage's config holds a *task config* (a frozen dataclass that is saved with the
run); its `build` makes the *task*: networks, data and loss. Everything random that a task does is a pure
function of what it is given (seed, stage, step, micro step, generator), so that a killed run can go on from
its last checkpoint as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Batch: TypeAlias = Any
"""Whatever `Task.batch` makes and `Task.loss` reads, on the task's device. The loop only passes it on."""


class Task(Protocol):
    """One stage's networks, data and loss."""

    def modules(self) -> Mapping[str, nn.Module]:
        """Networks that this stage trains or carries, by unique name; saved whole for resuming."""

    def parameter_groups(self) -> list[nn.Parameter]:
        """Parameters that learn; every other parameter of `modules` has `requires_grad=False`."""

    def batch(self, step: int, micro_step: int = 0) -> Batch:
        """Data of one forward pass: a pure function of (seed, stage, step, micro_step).

        Args:
            step: optimizer steps taken before this one, from 0.
            micro_step: which of the `accumulate` passes of this step, from 0.
        """

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Scalar loss to minimise, and scalars for the log.

        All explicit randomness comes from `generator` (on the task's device). The global generators are
        seeded for each pass, for dropout.
        """

    def names(self, batch: Batch) -> Sequence[str]:
        """What the samples of a batch are called, for the record of bad batches; empty if the step says it all."""

    def num_samples(self, batch: Batch) -> int:
        """Samples (clips or images) in a batch, for samples per second."""

    def validate(self) -> Mapping[str, float]:
        """Scalars measured on fixed data. Called with averaged weights, in eval mode, without gradients."""

    def write_samples(self, folder: Path) -> None:
        """Write sample sheets into `folder`, which exists. Called like `validate`."""

    def save_pipeline(self, folder: Path) -> None:
        """Write a folder (it exists, empty) that the pipelines load. Called with averaged weights."""


@runtime_checkable
class ReadsInOrder(Protocol):
    """What a task also has whose data can only be read one batch after the other, such as files.

    Its `batch` is asked for a (step, micro step) behind the ones before, or for the last one again.
    """

    def open_data(self, rank: int, world_size: int, report_folder: Path) -> None:
        """Begin to read, as one process of several; called once, before anything else of the data.

        Args:
            report_folder: where the record of samples that cannot be used is written.

        Raises:
            ValueError: the data cannot be used as described.
        """

    def data_state(self) -> dict[str, Any]:
        """Where this process's data go on behind the last batch that was asked for, as JSON values."""

    def load_data_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on where these were taken: one of each process, of any number of them. Before the first batch.

        Raises:
            DataMismatchError: they are of other data; the first batch is the next then.
            ValueError: they are no positions of a run.
        """

    def close_data(self) -> None:
        """Stop what reads."""


@runtime_checkable
class MayBeSharded(Protocol):
    """What a task also has whose networks may be shared out over processes.

    Such a network is used by calling it, in all processes alike and for the same kind of batch; `save_pipeline` runs
    none. `validate` and `write_samples` then run in every process and must do the same there.

    Attributes:
        shardable_modules: names in `modules` of networks that are worth it.
    """

    shardable_modules: Sequence[str]


class TaskConfig(Protocol):
    """A frozen dataclass that builds a task."""

    def build(self, start: Path | None, seed: int, stage_index: int, device: torch.device) -> Task:
        """Make the task.

        Args:
            start: pipeline folder of the stage before, or the recipe's `init`; None starts from nothing.
            seed: the recipe's seed. The global generators are already seeded for initialisation.
            stage_index: place of the stage in its recipe, from 0.
            device: where networks and batches live.
        """

    def validation_metrics(self) -> Sequence[str]:
        """Names of all that the task's `validate` measures, so that a wrong one is found before the first step."""
