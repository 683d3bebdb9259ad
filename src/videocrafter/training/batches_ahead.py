"""A task's batches, the next one made while the one before is trained on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from videocrafter.training.task import Batch, ReadsInOrder, Task

Place: TypeAlias = tuple[int, int]
"""Step and micro step of a batch."""


class BatchesAhead:
    """Hands out batches and, in a thread, makes the one that follows.

    Drawing and encoding then take no time of a step where a core is free. A batch depends on its place alone, so it
    is the same whichever thread makes it. Tasks that read in order keep workers of their own and know what they gave
    out last, so they are only asked for what is needed.

    Args:
        micro_steps: this process's share of each step's passes.
    """

    def __init__(self, task: Task, micro_steps: range) -> None:
        self._task, self._micro_steps = task, micro_steps
        # One thread makes them all, so no task is ever asked by two at once.
        self._maker = None if isinstance(task, ReadsInOrder) else ThreadPoolExecutor(1, "batches")
        self._made: dict[Place, Future[Batch]] = {}

    def take(self, step: int, micro_step: int, *, is_last: bool) -> Batch:
        """The batch of a place in the data; the next one is begun unless this is the last.

        Raises:
            Exception: what the task raised when it made the batch.
        """
        if self._maker is None:
            return self._task.batch(step, micro_step)
        place = (step, micro_step)
        wanted = self._made.pop(place, None) or self._maker.submit(self._task.batch, *place)
        # What was made for another place is dropped: the data went on elsewhere, after a bad step.
        self._made.clear()
        batch = wanted.result()
        if not is_last:
            self._begin(self._following(place))
        return batch

    def close(self) -> None:
        """Drop what is being made."""
        if self._maker is not None:
            self._maker.shutdown(wait=True, cancel_futures=True)

    def _begin(self, place: Place) -> None:
        assert self._maker is not None
        self._made[place] = self._maker.submit(self._task.batch, *place)

    def _following(self, place: Place) -> Place:
        step, micro_step = place
        later = micro_step + self._micro_steps.step
        return (step, later) if later in self._micro_steps else (step + 1, self._micro_steps.start)
