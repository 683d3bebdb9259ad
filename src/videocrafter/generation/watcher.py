"""The interface through which a front end follows a run: progress, notes, finished videos, cancelling."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videocrafter.generation.errors import GenerationCancelled

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from videocrafter.pipelines.settings import VideoRequest


@dataclass(frozen=True, kw_only=True)
class SamplingStep:
    """The state after one sampling step.

    Attributes:
        number: steps finished in this batch, from 1.
        num_steps: steps of this batch.
        done: steps finished in the run.
        total: steps of the run.
        batch: the request of the batch.
        state: "latents" [N, C, T, h, w] and, with most schedulers, "denoised", the estimate of the final latents.
    """

    number: int
    num_steps: int
    done: int
    total: int
    batch: VideoRequest
    state: Mapping[str, Any]

    @property
    def estimate(self) -> Tensor:
        """The best estimate of the final latents, [N, C, T, h, w]."""
        estimate: Tensor = self.state.get("denoised", self.state["latents"])
        return estimate


@dataclass(frozen=True, kw_only=True)
class WrittenVideo:
    """A finished video.

    Attributes:
        index: its place among the outputs of the run.
        path: file or folder of frames; its recording lies next to it.
        frames: uint8 [T, H, W, 3].
        recording: the settings that were stored.
    """

    index: int
    path: Path
    frames: np.ndarray
    recording: Mapping[str, Any]


class Watcher:
    """Follows a run. This one only measures; a front end overrides what it shows.

    All methods are called in the thread that runs the generation.

    Attributes:
        seconds: time spent in each phase so far.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the phase `name`."""
        start = time.perf_counter()
        yield
        self.add_seconds(name, time.perf_counter() - start)

    def add_seconds(self, name: str, seconds: float) -> None:
        """Add time to the phase `name`."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def note(self, text: str) -> None:
        """Receive a note about unusual settings, one line."""

    def begin(self, pipeline: Any, total: int) -> None:
        """Sampling is about to begin; it takes `total` steps."""

    def after_step(self, step: SamplingStep) -> None:
        """Receive the state after a sampling step."""

    def uninterrupted(self) -> AbstractContextManager[Any]:
        """Enclose the writing of a video and its report; a front end may hold back interruptions until both are done.

        Between the two, an interrupted run would say that a complete file was not written.
        """
        return nullcontext()

    def written(self, video: WrittenVideo) -> None:
        """Receive a video that was written completely."""

    def is_cancelled(self) -> bool:
        """Return whether to stop. Asked before and after every phase and after every step."""
        return False

    def stop_if_cancelled(self) -> None:
        """Raise GenerationCancelled if the run is to stop."""
        if self.is_cancelled():
            raise GenerationCancelled("the run was cancelled")
