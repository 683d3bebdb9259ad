"""Clips before decoding: small, picklable descriptions that sources return and workers open."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, NoReturn, Protocol

import numpy as np

from videocrafter.data.errors import BadSampleError
from videocrafter.media.framing import Framer
from videocrafter.media.image_file import MAX_PIXELS

Kind = Literal["video", "image"]
"""Kind of a source. Images are one-frame videos. A batch never mixes the two kinds."""


@dataclass(frozen=True, kw_only=True)
class DecodingLimits:
    """Limits on the decoding of one sample.

    Attributes:
        time_limit_s: largest time from opening to the last frame, in seconds.
        max_pixels: largest number of pixels per frame.
    """

    time_limit_s: float = 30.0
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if not self.time_limit_s > 0:
            raise ValueError(f"time_limit_s is {self.time_limit_s}, expected seconds above 0")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels is {self.max_pixels}, expected 1 or more")


class LazyVideo(Protocol):
    """An open clip. Frames are decoded on request."""

    @property
    def caption(self) -> str:
        """The caption; empty if there is none."""

    @property
    def fps(self) -> float:
        """Frame rate of the file; 1 for a still image."""

    @property
    def num_frames(self) -> int:
        """Number of frames according to the file; 1 for a still image."""

    def frames_at(self, times_s: Sequence[float], framer: Framer | None = None) -> np.ndarray:
        """Return the frames shown at increasing times from the clip's start, [T, H, W, 3] uint8.

        Raises:
            BadSampleError: decoding failed.
        """


class Clip(Protocol):
    """One clip of a source; picklable, and equal in every process."""

    @property
    def key(self) -> str:
        """Name of the clip within its source."""

    def open(self, limits: DecodingLimits) -> AbstractContextManager[LazyVideo]:
        """Open the clip for decoding. Raises only `BadSampleError`."""


@dataclass(frozen=True, kw_only=True)
class BrokenClip:
    """A clip that the source already knows to be unusable."""

    key: str
    reason: str
    message: str

    def open(self, limits: DecodingLimits) -> NoReturn:
        """Raise the reason as `BadSampleError`."""
        raise BadSampleError(self.reason, self.message)
