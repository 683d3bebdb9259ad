"""Prefetching of a task's batches."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from videocrafter.training.task import Batch, ReadsInOrder, Task

BatchKey: TypeAlias = tuple[int, int]
"""Step and micro step of a batch."""


class BatchesAhead:
    """Returns batches, and prepares the next one in a thread during the step.

    With a free CPU core, drawing and encoding samples then adds no time to a step. A batch depends only on its key,
    so it does not matter which thread makes it. Tasks that read in order have their own workers and track their
    position, so nothing is prefetched for them.

    Args:
        micro_steps: this process's share of each step's passes.
    """

    def __init__(self, task: Task, micro_steps: range) -> None:
        self._task, self._micro_steps = task, micro_steps
        # A single thread, so that the task is never called concurrently.
        self._maker = None if isinstance(task, ReadsInOrder) else ThreadPoolExecutor(1, "batches")
        self._made: dict[BatchKey, Future[Batch]] = {}

    def take(self, step: int, micro_step: int, *, is_last: bool) -> Batch:
        """Return a batch, and start to prepare the next one unless this is the last.

        Raises:
            Exception: the task's error in making the batch.
        """
        if self._maker is None:
            return self._task.batch(step, micro_step)
        key = (step, micro_step)
        requested = self._made.pop(key, None) or self._maker.submit(self._task.batch, *key)
        # A batch prepared for another key is obsolete: the data position jumped after a bad step.
        self._made.clear()
        batch = requested.result()
        if not is_last:
            following = self._following(key)
            self._made[following] = self._maker.submit(self._task.batch, *following)
        return batch

    def close(self) -> None:
        """Stop the thread and discard the batch that it prepares."""
        if self._maker is not None:
            self._maker.shutdown(wait=True, cancel_futures=True)

    def _following(self, key: BatchKey) -> BatchKey:
        step, micro_step = key
        later = micro_step + self._micro_steps.step
        return (step, later) if later in self._micro_steps else (step + 1, self._micro_steps.start)
