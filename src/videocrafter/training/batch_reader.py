"""Batches by step number from a sequential loader, and the data position for resuming.

A loader returns each batch once, but timing both precisions requests the first batch of a stage twice. The last batch
is therefore kept, and only that one: a batch of the paper's recipes takes about 100 MB.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videocrafter.data.loader import LoaderStats, VideoLoader
from videocrafter.data.loader_state import redistribute_states
from videocrafter.data.sample import VideoBatch

DATA_STATE = "data.json"
"""File in a checkpoint's training state with the data position of every process."""


class BatchReader:
    """The batches of one process.

    Args:
        loader: must not be shared.
        rank, world_size: as passed to the loader.
    """

    def __init__(self, loader: VideoLoader, *, rank: int = 0, world_size: int = 1) -> None:
        self._loader, self._rank, self._world_size = loader, rank, world_size
        self._last: tuple[tuple[int, int], VideoBatch] | None = None
        self._state = loader.state_dict()

    def batch(self, step: int, micro_step: int) -> VideoBatch:
        """Return the batch of a forward pass: the next one, or the last one again.

        Raises:
            RuntimeError: the batch is older than the last one.
            SourceError, TooManyBadSamplesError: the data cannot be used.
        """
        key = (step, micro_step)
        if self._last is not None and key <= self._last[0]:
            last, batch = self._last
            if key != last:
                raise RuntimeError(
                    f"the batch of step {step}, pass {micro_step} was already read; expected the pass {last} or later"
                )
            return batch
        self._last = None
        batch = next(self._loader)
        self._last, self._state = (key, batch), self._loader.state_dict()
        return batch

    def state(self) -> dict[str, Any]:
        """Return the data position after the last batch that was requested."""
        return self._state

    def load(self, states: Sequence[dict[str, Any]]) -> None:
        """Resume from the `state` of every process of a run, which may have had another number of processes.

        Raises:
            DataMismatchError: the positions belong to other data; the loader stays at its first batch.
            ValueError: the positions are invalid.
        """
        same = len(states) == self._world_size
        own = states if same else redistribute_states(states, self._world_size)
        self._loader.load_state_dict(own[self._rank])
        self._state = self._loader.state_dict()

    def stats(self) -> LoaderStats:
        """Return the loader's throughput and the counts of skipped samples."""
        return self._loader.stats()

    def close(self) -> None:
        """Stop the workers."""
        self._loader.close()


def write_data_states(folder: Path, states: Sequence[dict[str, Any]]) -> None:
    """Write the data positions of all processes, by rank, into a checkpoint that is not yet published."""
    (folder / DATA_STATE).write_text(json.dumps(list(states)), encoding="utf-8")


def read_data_states(folder: Path) -> list[dict[str, Any]]:
    """Read what `write_data_states` wrote."""
    states: list[dict[str, Any]] = json.loads((folder / DATA_STATE).read_text(encoding="utf-8"))
    return states
