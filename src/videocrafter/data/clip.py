"""A clip before it is decoded: what every source gives, small enough to be sent to another process."""

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
"""What a source holds. Images are one-frame videos; the two are never mixed in a batch."""


@dataclass(frozen=True, kw_only=True)
class DecodingLimits:
    """What one sample may cost.

    Attributes:
        time_limit_s: seconds from opening to the last frame.
        max_pixels: pixels of a frame.
    """

    time_limit_s: float = 30.0
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if not self.time_limit_s > 0:
            raise ValueError(f"time_limit_s is {self.time_limit_s}, expected seconds above 0")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels is {self.max_pixels}, expected 1 or more")


class LazyVideo(Protocol):
    """An open clip: its caption and length are known, its frames are decoded when asked for."""

    @property
    def caption(self) -> str:
        """What the clip shows; empty if nobody said it."""

    @property
    def fps(self) -> float:
        """Frames per second of the file; 1 for a still image."""

    @property
    def num_frames(self) -> int:
        """Frames, as far as the file says; 1 for a still image."""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as shown. May decode a frame."""

    def frames_at(self, times_s: Sequence[float], framer: Framer | None = None) -> np.ndarray:
        """The frames on screen at rising times from the clip's start, `[T, H, W, 3]` uint8.

        Raises:
            BadSampleError: they cannot be decoded.
        """


class Clip(Protocol):
    """One clip of a source. Picklable, and the same in every process."""

    @property
    def key(self) -> str:
        """Its name in its source."""

    def open(self, limits: DecodingLimits) -> AbstractContextManager[LazyVideo]:
        """Open it for decoding; errors are `BadSampleError`."""


@dataclass(frozen=True, kw_only=True)
class BrokenClip:
    """A clip of which the source itself knows that it cannot be used."""

    key: str
    reason: str
    message: str

    def open(self, limits: DecodingLimits) -> NoReturn:
        """Raise what is wrong with it."""
        raise BadSampleError(self.reason, self.message)
