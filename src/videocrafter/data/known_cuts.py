"""Cuts that come again, and a memory of them: what is known of a cut need not be decoded.

With fixed cuts a clip has a few cuts that follow from nothing but the clip, the rules of cutting and a number. So
they are the same in every run and process, whatever other clips there are, and somebody may keep what was made of
them. What that is, the data do not know.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import lru_cache
from typing import Protocol

from videocrafter.data.clip import Clip, DecodingLimits, Kind
from videocrafter.data.cutting import CutName, CuttingConfig, KnownCut
from videocrafter.data.decoding import Answer, Decoding, DecodingStoppedError, Task
from videocrafter.data.errors import BadSampleError
from videocrafter.data.shuffling import seed_from


@dataclass(frozen=True, kw_only=True)
class FixedCuts:
    """How many cuts a clip has: in epoch e it shows cut e modulo this number."""

    per_video: int
    per_image: int = 1

    def __post_init__(self) -> None:
        if min(self.per_video, self.per_image) < 1:
            raise ValueError(
                f"a video has {self.per_video} cuts and an image {self.per_image}, expected 1 or more of each"
            )

    def count(self, kind: Kind) -> int:
        """Cuts of one clip."""
        return self.per_image if kind == "image" else self.per_video


class CutMemory(Protocol):
    """Somebody who keeps what was made of cuts. Used from the thread that gathers batches."""

    def knows(self, task: Task) -> bool:
        """Whether `recall` will answer, told without reading much."""

    def recall(self, task: Task) -> KnownCut | BadSampleError | None:
        """What is known of a cut, or why it was left out; None if what was known is lost.

        May raise what ends the run where the cut's turn has come.
        """

    def note_bad(self, task: Task, error: BadSampleError) -> None:
        """Remember that a cut cannot be used, and why."""


def fixed_cut(label: str, clip: Clip, kind: Kind, number: int, cutting: CuttingConfig) -> Task:
    """Cut `number` of a clip; its seed follows from its name.

    The name holds all that the cut follows from, but for the bytes of the clip's file, which are known only once they
    are read.

    Args:
        label: the source's.
    """
    if not is_dataclass(clip) or isinstance(clip, type):
        raise TypeError(f"{type(clip).__name__} is no dataclass, so nobody can tell what its cuts follow from")
    described = [label, kind, number, type(clip).__name__, asdict(clip), _described(cutting)]
    text = json.dumps(described, ensure_ascii=True, separators=(",", ":"), default=repr)
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    name = CutName(digest=digest, key=f"{label}/{clip.key}", number=number)
    return Task(clip=clip, kind=kind, seed=seed_from("cut", digest), name=name)


@lru_cache
def _described(cutting: CuttingConfig) -> str:
    """The rules as text. What a sample may cost does not change what it is."""
    return json.dumps(asdict(replace(cutting, limits=DecodingLimits())))


class RecallingDecoding:
    """Answers from a memory, and asks another decoding for what is not known.

    Args:
        memory: knows tasks by their name.
        decoding: makes the other one, when it is first needed: with everything known no worker starts.
    """

    def __init__(self, memory: CutMemory, decoding: Callable[[], Decoding]) -> None:
        self._memory, self._make = memory, decoding
        self._decoding: Decoding | None = None
        self._known: dict[int, Task] = {}
        self._decoded: dict[int, Task] = {}
        self._stopped = False

    def submit(self, number: int, task: Task) -> None:
        """Remember a task that is known, have the others decoded."""
        if self._memory.knows(task):
            self._known[number] = task
        else:
            self._decode(number, task)

    def take(self, number: int) -> Answer:
        """What is known, or was decoded."""
        if self._stopped:
            raise DecodingStoppedError
        if number in self._known:
            task, started = self._known.pop(number), time.perf_counter()
            found = self._memory.recall(task)
            if found is not None:
                return Answer(result=found, seconds=time.perf_counter() - started)
            self._decode(number, task)
        task = self._decoded.pop(number)
        answer = self._opened().take(number)
        if isinstance(answer.result, BadSampleError):
            self._memory.note_bad(task, answer.result)
        return answer

    def stop(self) -> None:
        """From any thread: let `take` raise `DecodingStoppedError` from now on."""
        self._stopped = True
        if self._decoding is not None:
            self._decoding.stop()

    def close(self) -> None:
        """Let go of everything."""
        if self._decoding is not None:
            self._decoding.close()

    def _decode(self, number: int, task: Task) -> None:
        self._opened().submit(number, task)
        self._decoded[number] = task

    def _opened(self) -> Decoding:
        if self._decoding is None:
            self._decoding = self._make()
            if self._stopped:  # from another thread, meanwhile
                self._decoding.stop()
        return self._decoding
