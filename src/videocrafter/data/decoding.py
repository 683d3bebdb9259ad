"""Decoding as a service: tasks go in under a number, and each answer is taken by its number.

So the order of samples never depends on which worker is faster, nor on how many there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from videocrafter.data.clip import Clip, Kind
from videocrafter.data.cutting import CutClip, CutName, CuttingConfig, KnownCut, cut_clip
from videocrafter.data.errors import BadSampleError


@dataclass(frozen=True, kw_only=True)
class Task:
    """One clip to be cut; picklable.

    Attributes:
        name: of a cut that comes again; None for one that does not.
    """

    clip: Clip
    kind: Kind
    seed: int
    name: CutName | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a task: a clip, what is known of it, or why there is none.

    Attributes:
        seconds: what the work took.
    """

    result: CutClip | KnownCut | BadSampleError
    seconds: float


Work = Callable[[Task], CutClip]
"""Does a task, or raises `BadSampleError`. Has to be picklable, to be sent to workers."""


def cut_task(task: Task, config: CuttingConfig) -> CutClip:
    """The work that a loader asks for."""
    return cut_clip(task.clip, task.kind, task.seed, config)


class Decoding(Protocol):
    """Where tasks are done."""

    def submit(self, number: int, task: Task) -> None:
        """Ask for a task to be done; numbers are used once."""

    def take(self, number: int) -> Answer:
        """Wait for the answer of a task that was submitted."""

    def stop(self) -> None:
        """From any thread: let `take` raise `DecodingStoppedError` from now on."""

    def close(self) -> None:
        """Let go of everything."""


class DecodingStoppedError(Exception):
    """Somebody stopped the decoding that was waited for."""


def do(work: Work, task: Task) -> Answer:
    """Do a task now and time it."""
    started = time.perf_counter()
    result: CutClip | BadSampleError
    try:
        result = work(task)
    except BadSampleError as error:
        result = error
    return Answer(result=result, seconds=time.perf_counter() - started)


class DecodingHere:
    """Does each task in this process, when its answer is taken. A decoder that hangs cannot be stopped here."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._tasks: dict[int, Task] = {}
        self._stopped = False

    def submit(self, number: int, task: Task) -> None:
        """Remember a task."""
        self._tasks[number] = task

    def take(self, number: int) -> Answer:
        """Do it."""
        if self._stopped:
            raise DecodingStoppedError
        return do(self._work, self._tasks.pop(number))

    def stop(self) -> None:
        """Do no more tasks."""
        self._stopped = True

    def close(self) -> None:
        """Forget what is left."""
        self._tasks.clear()
