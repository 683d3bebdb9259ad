"""Decoding tasks and results, and decoding in the current process.

Tasks are submitted under a number, and each result is taken by its number. The order of samples therefore depends
neither on how many workers there are nor on how fast they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from videocrafter.data.clip import Clip, Kind
from videocrafter.data.cutting import CachedCut, CutClip, CutName, CuttingConfig, cut_clip
from videocrafter.data.errors import BadSampleError


@dataclass(frozen=True, kw_only=True)
class DecodingTask:
    """A clip to cut; picklable.

    Attributes:
        name: name of the cut if it is a fixed one, else None.
    """

    clip: Clip
    kind: Kind
    seed: int
    name: CutName | None = None


@dataclass(frozen=True, kw_only=True)
class DecodingResult:
    """Outcome of a task.

    Attributes:
        outcome: the cut, its cache entry, or the reason why the clip cannot be used.
        seconds: time that the task took.
    """

    outcome: CutClip | CachedCut | BadSampleError
    seconds: float


DecodeFunction = Callable[[DecodingTask], CutClip]
"""Does a task, or raises `BadSampleError`. Must be picklable to be sent to workers."""


def cut_task(task: DecodingTask, config: CuttingConfig) -> CutClip:
    """Cut the clip of a task; the `DecodeFunction` of a loader."""
    return cut_clip(task.clip, task.kind, task.seed, config)


class ClipDecoder(Protocol):
    """Does decoding tasks."""

    def submit(self, number: int, task: DecodingTask) -> None:
        """Submit a task. Each number may be used once."""

    def take(self, number: int) -> DecodingResult:
        """Wait for the result of a submitted task.

        Raises:
            DecodingStoppedError: `stop` was called.
        """

    def stop(self) -> None:
        """Make `take` raise `DecodingStoppedError` from now on. May be called from any thread."""

    def close(self) -> None:
        """Release all resources."""


class DecodingStoppedError(Exception):
    """Decoding was stopped while a result was awaited."""


def run_task(decode: DecodeFunction, task: DecodingTask) -> DecodingResult:
    """Do a task and time it."""
    started = time.perf_counter()
    outcome: CutClip | BadSampleError
    try:
        outcome = decode(task)
    except BadSampleError as error:
        outcome = error
    return DecodingResult(outcome=outcome, seconds=time.perf_counter() - started)


class InProcessDecoder:
    """Does each task in the current process, when its result is taken. It cannot stop a decoder that hangs."""

    def __init__(self, decode: DecodeFunction) -> None:
        self._decode = decode
        self._tasks: dict[int, DecodingTask] = {}
        self._stopped = False

    def submit(self, number: int, task: DecodingTask) -> None:
        """Queue a task."""
        self._tasks[number] = task

    def take(self, number: int) -> DecodingResult:
        """Do a task."""
        if self._stopped:
            raise DecodingStoppedError
        return run_task(self._decode, self._tasks.pop(number))

    def stop(self) -> None:
        """Do no more tasks."""
        self._stopped = True

    def close(self) -> None:
        """Drop the queued tasks."""
        self._tasks.clear()
