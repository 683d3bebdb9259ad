"""Batches by number out of a loader that only goes forward, and where to go on after a break.

A loader gives each batch once. The batch of a stage's first pass is asked for twice where both precisions are timed
with it, so the last batch is kept; no more than that, because one batch of the paper's is a hundred megabytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from videocrafter.data.loader import LoaderStats, VideoLoader
from videocrafter.data.loader_state import redistribute_states
from videocrafter.data.sample import VideoBatch
from videocrafter.training.saving.checkpoint import write_text

DATA_STATE = "data.json"
"""The file in a checkpoint's training state that holds one position for each process."""


class BatchReader:
    """The batches of one process.

    Args:
        loader: not used by anyone else.
        rank, world_size: the loader's.
    """

    def __init__(self, loader: VideoLoader, *, rank: int = 0, world_size: int = 1) -> None:
        self._loader, self._rank, self._world_size = loader, rank, world_size
        self._last: tuple[tuple[int, int], VideoBatch] | None = None
        self._state = loader.state_dict()

    def batch(self, step: int, micro_step: int) -> VideoBatch:
        """The batch of a step's pass: the next one, or the last one again.

        Raises:
            RuntimeError: it lies further behind.
            SourceError, TooManyBadSamplesError: the data cannot be used.
        """
        place = (step, micro_step)
        if self._last is not None and place <= self._last[0]:
            last, batch = self._last
            if place != last:
                raise RuntimeError(f"the batch of step {step}, pass {micro_step} was given already; data go forward")
            return batch
        self._last = None
        batch = next(self._loader)
        self._last, self._state = (place, batch), self._loader.state_dict()
        return batch

    def state(self) -> dict[str, Any]:
        """Where the batch behind the last one that was asked for begins."""
        return self._state

    def load(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on where `state` was taken in every process of a run, also in another number of processes.

        Raises:
            DataMismatchError: they are of other data; the loader stays at its first batch.
            ValueError: they are no positions of a run.
        """
        same = len(states) == self._world_size
        dealt = list(states) if same else redistribute_states(states, self._world_size)
        self._loader.load_state_dict(dealt[self._rank])
        self._state = self._loader.state_dict()

    def stats(self) -> LoaderStats:
        """How fast batches came, and what was left out."""
        return self._loader.stats()

    def close(self) -> None:
        """Stop the workers."""
        self._loader.close()


def write_data_states(folder: Path, states: Sequence[dict[str, Any]]) -> None:
    """Write the positions of all processes, by rank, into a folder that is not yet published."""
    write_text(folder / DATA_STATE, json.dumps(list(states)))


def read_data_states(folder: Path) -> list[dict[str, Any]]:
    """What `write_data_states` wrote."""
    states: list[dict[str, Any]] = json.loads((folder / DATA_STATE).read_text(encoding="utf-8"))
    return states
