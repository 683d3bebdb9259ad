"""Stub clips and sources without media files. Pixels encode the numbers of the clip and the frame."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from videocrafter.data.clip import DecodingLimits, Kind
from videocrafter.data.clip_sampling import ClipSampling
from videocrafter.data.cutting import CuttingConfig
from videocrafter.data.errors import BadSampleError
from videocrafter.data.source import ClipShard
from videocrafter.media.framing import Framer, frame_image

CUTTING = CuttingConfig(
    sampling=ClipSampling(lengths=(2, 4), fps_range=(2.0, 8.0), short_clips="skip"),
    height=8,
    width=8,
    max_aspect=2.0,
    size_step=4,
    crop="random",
)
"""Small samples of two lengths and several shapes."""


@dataclass(frozen=True, kw_only=True)
class StubVideo:
    """Red is the number of the clip, green that of the frame; only the left half is blue."""

    number: int
    caption: str
    fps: float = 8.0
    num_frames: int = 32
    size: tuple[int, int] = (12, 16)

    def frames_at(self, times_s: Sequence[float], framer: Framer | None = None) -> np.ndarray:
        frames = np.zeros((len(times_s), *self.size, 3), np.uint8)
        frames[..., 0] = self.number % 256
        frames[..., : self.size[1] // 2, 2] = 255
        for frame, time_s in zip(frames, times_s, strict=True):
            frame[..., 1] = int(time_s * self.fps)
        if framer is None:
            return frames
        framing = framer(*self.size)
        return np.stack([frame_image(frame, framing) for frame in frames])


@dataclass(frozen=True, kw_only=True)
class StubClip:
    """A clip that is "good" or "bad", raises an "unforeseen" error, "hangs" or "dies"."""

    number: int
    does: str = "good"
    fps: float = 8.0
    num_frames: int = 32
    size: tuple[int, int] = (12, 16)

    @property
    def key(self) -> str:
        return f"clip {self.number}"

    @contextmanager
    def open(self, limits: DecodingLimits) -> Iterator[StubVideo]:
        if self.does == "bad":
            raise BadSampleError("unreadable", f"{self.key} is bad")
        if self.does == "unforeseen":
            raise ZeroDivisionError("nobody thought of this")
        if self.does == "hangs":
            time.sleep(1000)
        if self.does == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        yield StubVideo(
            number=self.number, caption=self.key, fps=self.fps, num_frames=self.num_frames, size=self.size
        )


class StubSource:
    """A source of given shards."""

    def __init__(
        self,
        shards: Sequence[Sequence[StubClip]],
        *,
        kind: Kind = "video",
        label: str = "stub",
        shards_together: int = 1,
        damaged: Sequence[int] = (),
    ) -> None:
        self.shards, self.kind, self.label, self.shards_together = shards, kind, label, shards_together
        self.num_shards, self._damaged = len(shards), damaged

    def read_shard(self, index: int) -> ClipShard:
        problem = f"shard {index} is damaged" if index in self._damaged else None
        return ClipShard(clips=self.shards[index], problem=problem)


def table(count: int, first: int = 0, **kwargs) -> StubSource:
    """A source of single clips, numbered from `first`."""
    return StubSource([[StubClip(number=first + index)] for index in range(count)], **kwargs)


def archives(sizes: Sequence[int], first: int = 0, **kwargs) -> StubSource:
    """A source of archives of these sizes, with clips numbered from `first`."""
    numbers = iter(range(first, first + sum(sizes)))
    return StubSource([[StubClip(number=next(numbers)) for _ in range(size)] for size in sizes], **kwargs)
