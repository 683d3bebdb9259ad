"""Which frames of a clip are shown: a stride that follows from a random target rate, and the true rate it gives."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

from videocrafter.data.clip import LazyVideo
from videocrafter.data.errors import BadSampleError

ShortClips = Literal["skip", "lower_stride"]


@dataclass(frozen=True, kw_only=True)
class ClipSampling:
    """How many frames are taken, how far apart, and from where.

    Attributes:
        lengths: frames per sample; a clip gives the longest of these that it has frames for.
        fps_range: the target rate is drawn from it, uniform in its logarithm; None takes every frame. The paper
            leaves it open; this is the range that the official demo offers.
        short_clips: what is done with a clip that is too short for the smallest length at the drawn rate: "skip"
            leaves it out, "lower_stride" brings its frames closer together, as far as it has them.
        start: where a sample begins that is shorter than its clip.
        image_fps: the rate that images are labelled with; None draws it from `fps_range`, so that it says nothing.
    """

    lengths: tuple[int, ...] = (16,)
    fps_range: tuple[float, float] | None = (4.0, 32.0)
    short_clips: ShortClips = "lower_stride"
    start: Literal["random", "center", "first"] = "random"
    image_fps: float | None = None

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 2 or len(set(self.lengths)) != len(self.lengths):
            raise ValueError(f"lengths is {self.lengths}, expected different numbers of frames, each 2 or more")
        if self.fps_range is not None:
            low, high = self.fps_range
            if not 0 < low <= high < math.inf:
                raise ValueError(f"fps_range is {self.fps_range}, expected (low, high) with 0 < low <= high")
        if self.short_clips not in ("skip", "lower_stride"):
            raise ValueError(f"short_clips is {self.short_clips!r}, expected 'skip' or 'lower_stride'")
        if self.start not in ("random", "center", "first"):
            raise ValueError(f"start is {self.start!r}, expected 'random', 'center' or 'first'")
        if self.image_fps is not None and not self.image_fps > 0:
            raise ValueError(f"image_fps is {self.image_fps}, expected a rate above 0, or none")


@dataclass(frozen=True, kw_only=True)
class FrameTimes:
    """The frames that a sample shows.

    Attributes:
        times_s: when they are on screen, in seconds from the clip's start, rising.
        fps: the rate at which they follow each other: the file's own, divided by the stride.
    """

    times_s: tuple[float, ...]
    fps: float


def choose_times(video: LazyVideo, sampling: ClipSampling, rng: random.Random) -> FrameTimes:
    """Choose the frames of a video.

    Times lie in the middle of frames, so that no rounding of time stamps can miss one. In a video of variable rate
    they are as far apart as in one of its average rate, so its motion keeps its speed.

    Raises:
        BadSampleError: the video is too short.
    """
    target = _draw_rate(sampling, rng)
    stride = 1 if target is None else _stride(video.fps, target, sampling)
    fitting = [length for length in sampling.lengths if stride * (length - 1) < video.num_frames]
    if fitting:
        length = max(fitting)
    else:
        length = min(sampling.lengths)
        lowest = (video.num_frames - 1) // (length - 1)
        if sampling.short_clips == "skip" or lowest < 1:
            raise BadSampleError(
                "too_short",
                f"{video.num_frames} frames at {video.fps:.4g} fps; {length} frames at every {stride}. were wanted",
            )
        stride = lowest
    room = video.num_frames - 1 - stride * (length - 1)
    first = {"random": int(rng.random() * (room + 1)), "center": room // 2, "first": 0}[sampling.start]
    times = tuple((first + stride * index + 0.5) / video.fps for index in range(length))
    return FrameTimes(times_s=times, fps=video.fps / stride)


def choose_image_time(video: LazyVideo, sampling: ClipSampling, rng: random.Random) -> FrameTimes:
    """Choose one frame of a video, or the only one of an image, and the rate that it is labelled with."""
    drawn = _draw_rate(sampling, rng)
    moment = (int(rng.random() * max(1, video.num_frames)) + 0.5) / video.fps
    fps = sampling.image_fps or drawn or video.fps
    return FrameTimes(times_s=(moment,), fps=fps)


def _draw_rate(sampling: ClipSampling, rng: random.Random) -> float | None:
    share = rng.random()
    if sampling.fps_range is None:
        return None
    low, high = (math.log(rate) for rate in sampling.fps_range)
    return math.exp(low + (high - low) * share)


def _stride(fps: float, target: float, sampling: ClipSampling) -> int:
    """The stride whose rate is nearest to the target, within the range if any stride's is."""
    assert sampling.fps_range is not None
    low, high = sampling.fps_range
    stride = max(1, round(fps / target))
    smallest, largest = max(1, math.ceil(fps / high - 1e-9)), math.floor(fps / low + 1e-9)
    return min(max(stride, smallest), largest) if smallest <= largest else stride
