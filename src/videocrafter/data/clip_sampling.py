"""Selection of the frames of a sample: a stride derived from a random target rate, and the resulting frame rate."""

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
    """Number, spacing and start of the frames of a sample.

    Attributes:
        lengths: frames per sample; a clip uses the largest that it has enough frames for.
        fps_range: range of target rates, log-uniform; None uses every frame. The paper does not state it; the default
            is the range of the official demo.
        short_clips: treatment of a clip that is too short for the smallest length at the drawn rate. "skip" skips it;
            "lower_stride" uses the largest stride that fits.
        start: start of a sample that is shorter than its clip.
        image_fps: fps label of images; None draws it from `fps_range`, so that it carries no information.
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
    """Times of the frames of a sample.

    Attributes:
        times_s: seconds from the clip's start, increasing.
        fps: frame rate of the sample: that of the file, divided by the stride.
    """

    times_s: tuple[float, ...]
    fps: float


def choose_times(video: LazyVideo, sampling: ClipSampling, rng: random.Random) -> FrameTimes:
    """Choose the frames of a video.

    Times lie in the middle of frame intervals, so that rounded timestamps cannot select a neighbouring frame. In a
    variable-frame-rate video they are spaced by its average rate, which preserves the speed of motion.

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
                f"{video.num_frames} frames at {video.fps:.4g} fps, expected enough for {length} at stride {stride}",
            )
        stride = lowest
    room = video.num_frames - 1 - stride * (length - 1)
    first = {"random": int(rng.random() * (room + 1)), "center": room // 2, "first": 0}[sampling.start]
    times = tuple((first + stride * index + 0.5) / video.fps for index in range(length))
    return FrameTimes(times_s=times, fps=video.fps / stride)


def choose_image_time(video: LazyVideo, sampling: ClipSampling, rng: random.Random) -> FrameTimes:
    """Choose one frame of a video, or the only frame of an image, and its fps label."""
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
    """Return the stride whose rate is nearest to the target, within the range if any stride's rate is."""
    assert sampling.fps_range is not None
    low, high = sampling.fps_range
    stride = max(1, round(fps / target))
    smallest, largest = max(1, math.ceil(fps / high - 1e-9)), math.floor(fps / low + 1e-9)
    return min(max(stride, smallest), largest) if smallest <= largest else stride
