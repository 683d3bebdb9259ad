"""Fixed cuts of clips, and decoding with a cache of them.

With fixed cuts, a clip has a few cuts that depend only on the clip, the cutting config and a number. They are equal
in every run and process, whatever other clips there are, so values computed from them can be cached. This package
does not depend on what these values are.
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
from videocrafter.data.cutting import CachedCut, CutName, CuttingConfig
from videocrafter.data.decoding import ClipDecoder, DecodingResult, DecodingStoppedError, DecodingTask
from videocrafter.data.errors import BadSampleError
from videocrafter.data.shuffling import seed_from


@dataclass(frozen=True, kw_only=True)
class FixedCuts:
    """Number of cuts per clip. Epoch e uses cut e modulo this number."""

    per_video: int
    per_image: int = 1

    def __post_init__(self) -> None:
        if min(self.per_video, self.per_image) < 1:
            raise ValueError(f"per_video and per_image are {self.per_video} and {self.per_image}, expected 1 or more")

    def count(self, kind: Kind) -> int:
        """Return the number of cuts of one clip."""
        return self.per_image if kind == "image" else self.per_video


class CutCache(Protocol):
    """A cache of values computed from cuts. It is called from the thread that collects batches."""

    def knows(self, task: DecodingTask) -> bool:
        """Return whether `recall` is expected to find the cut, at little cost."""

    def recall(self, task: DecodingTask) -> CachedCut | BadSampleError | None:
        """Return the cached cut, or the reason why it was skipped; None if the entry is lost.

        An exception raised here stops the run when the cut is due.
        """

    def note_bad(self, task: DecodingTask, error: BadSampleError) -> None:
        """Record why a cut cannot be used."""


def fixed_cut(label: str, clip: Clip, kind: Kind, number: int, cutting: CuttingConfig) -> DecodingTask:
    """Return the task for cut `number` of a clip. The seed is derived from the cut's name.

    The name covers everything that determines the cut, except for the contents of the clip's file.

    Args:
        label: label of the source.

    Raises:
        TypeError: the clip is not a dataclass.
    """
    if not is_dataclass(clip) or isinstance(clip, type):
        raise TypeError(f"{type(clip).__name__} is not a dataclass, expected one whose fields determine its cuts")
    described = [label, kind, number, type(clip).__name__, asdict(clip), _described(cutting)]
    text = json.dumps(described, ensure_ascii=True, separators=(",", ":"), default=repr)
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    name = CutName(digest=digest, key=f"{label}/{clip.key}", number=number)
    return DecodingTask(clip=clip, kind=kind, seed=seed_from("cut", digest), name=name)


@lru_cache
def _described(cutting: CuttingConfig) -> str:
    """Return the config as text, without the limits, which do not affect the result."""
    return json.dumps(asdict(replace(cutting, limits=DecodingLimits())))


class CachedDecoder:
    """Takes results from a cache, and decodes only what it does not contain.

    Args:
        cache: finds tasks by their name.
        open_decoder: creates the decoder on first use, so that no worker starts if everything is cached.
    """

    def __init__(self, cache: CutCache, open_decoder: Callable[[], ClipDecoder]) -> None:
        self._cache, self._open_decoder = cache, open_decoder
        self._decoder: ClipDecoder | None = None
        self._cached: dict[int, DecodingTask] = {}
        self._decoded: dict[int, DecodingTask] = {}
        self._stopped = False

    def submit(self, number: int, task: DecodingTask) -> None:
        """Submit a task for decoding if it is not cached."""
        if self._cache.knows(task):
            self._cached[number] = task
        else:
            self._decode(number, task)

    def take(self, number: int) -> DecodingResult:
        """Return the cached result, or wait for the decoded one."""
        if self._stopped:
            raise DecodingStoppedError
        if number in self._cached:
            task, started = self._cached.pop(number), time.perf_counter()
            found = self._cache.recall(task)
            if found is not None:
                return DecodingResult(outcome=found, seconds=time.perf_counter() - started)
            self._decode(number, task)
        task = self._decoded.pop(number)
        result = self._opened().take(number)
        if isinstance(result.outcome, BadSampleError):
            self._cache.note_bad(task, result.outcome)
        return result

    def stop(self) -> None:
        """Make `take` raise `DecodingStoppedError` from now on. May be called from any thread."""
        self._stopped = True
        if self._decoder is not None:
            self._decoder.stop()

    def close(self) -> None:
        """Release all resources."""
        if self._decoder is not None:
            self._decoder.close()

    def _decode(self, number: int, task: DecodingTask) -> None:
        self._opened().submit(number, task)
        self._decoded[number] = task

    def _opened(self) -> ClipDecoder:
        if self._decoder is None:
            self._decoder = self._open_decoder()
            if self._stopped:  # by another thread in the meantime
                self._decoder.stop()
        return self._decoder
