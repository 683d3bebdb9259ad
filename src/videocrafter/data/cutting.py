"""Cutting of a sample out of a clip: a pure function of the clip, a seed and the config, run by workers."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np

from videocrafter.data.clip import Clip, DecodingLimits, Kind
from videocrafter.data.clip_sampling import ClipSampling, choose_image_time, choose_times
from videocrafter.data.errors import BadSampleError
from videocrafter.media.framing import MAX_ASPECT, Framer, Framing


@dataclass(frozen=True, kw_only=True)
class CuttingConfig:
    """Selection, cropping and scaling of frames.

    Attributes:
        sampling: selection of frames.
        height, width: size of samples in pixels.
        max_aspect: enables aspect-ratio buckets: sizes of about the same area whose aspect ratio (long side over
            short side) is at most this. Each clip uses the bucket nearest to its own shape. None disables buckets.
        size_step: bucket sizes are multiples of this. 64 suits the official networks: latents are 8 times smaller
            than pixels, and the network halves them three times.
        crop: part of a frame to keep if its aspect ratio differs from the sample's.
        flip: mirror half of the samples. Off, because captions mention left and right, and frames contain text.
        max_enlargement: skip clips that would have to be enlarged by more than this factor; None never skips.
        require_captions: skip clips without a caption; else their caption is empty.
        limits: limits on decoding.
    """

    sampling: ClipSampling = field(default_factory=ClipSampling)
    height: int = 256
    width: int = 256
    max_aspect: float | None = None
    size_step: int = 64
    crop: Literal["center", "random"] = "center"
    flip: bool = False
    max_enlargement: float | None = None
    require_captions: bool = True
    limits: DecodingLimits = field(default_factory=DecodingLimits)

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.size_step) < 1:
            raise ValueError(
                f"height, width and size_step are {self.height}, {self.width} and {self.size_step}, "
                "expected 1 or more"
            )
        if self.max_aspect is not None:
            given = max(self.height, self.width) / min(self.height, self.width)
            if not given <= self.max_aspect <= MAX_ASPECT:
                raise ValueError(
                    f"max_aspect is {self.max_aspect}, expected none, or {given:.3g} (the aspect ratio of "
                    f"{self.height}x{self.width}) to {MAX_ASPECT:g}"
                )
            if self.height % self.size_step or self.width % self.size_step:
                raise ValueError(
                    f"height and width are {self.height} and {self.width}, expected multiples of size_step, "
                    f"{self.size_step}, if max_aspect is set"
                )
        if self.crop not in ("center", "random"):
            raise ValueError(f"crop is {self.crop!r}, expected 'center' or 'random'")
        if self.max_enlargement is not None and not self.max_enlargement > 0:
            raise ValueError(f"max_enlargement is {self.max_enlargement}, expected a factor above 0, or none")

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Heights and widths that samples may have."""
        if self.max_aspect is None:
            return ((self.height, self.width),)
        return _sizes_of_area(self.height, self.width, self.size_step, self.max_aspect)


@dataclass(frozen=True, kw_only=True)
class CutClip:
    """A decoded sample.

    Attributes:
        pixels: [T, H, W, 3] uint8.
        caption: the caption.
        fps: frame rate of the pixels.
    """

    pixels: np.ndarray
    caption: str
    fps: float

    @property
    def shape(self) -> tuple[int, ...]:
        """[T, H, W, 3]."""
        return self.pixels.shape


@dataclass(frozen=True, kw_only=True)
class CutName:
    """Name of one of the fixed cuts of a clip.

    Attributes:
        digest: hash of everything that determines the cut.
        key: name of the clip, as in `VideoBatch.keys`.
        number: number of the cut, from 0.
    """

    digest: str
    key: str
    number: int


@dataclass(frozen=True, kw_only=True)
class CachedCut:
    """A cut found in a cache, so that it need not be decoded.

    Attributes:
        shape: shape of its pixels, [T, H, W, 3].
        caption: the caption.
        fps: frame rate of the pixels.
        content: the cached value; opaque to this package.
    """

    shape: tuple[int, ...]
    caption: str
    fps: float
    content: object


def cut_clip(clip: Clip, kind: Kind, seed: int, config: CuttingConfig) -> CutClip:
    """Open a clip, choose frames, decode them, crop and scale them.

    Raises:
        BadSampleError: the clip cannot be used.
    """
    rng = random.Random(seed)
    try:
        with clip.open(config.limits) as video:
            if config.require_captions and not video.caption:
                raise BadSampleError("no_caption", f"{clip.key} has no caption")
            choose = choose_image_time if kind == "image" else choose_times
            chosen = choose(video, config.sampling, rng)
            pixels = video.frames_at(chosen.times_s, _framer(config, rng))
            return CutClip(pixels=np.ascontiguousarray(pixels), caption=video.caption, fps=chosen.fps)
    except BadSampleError:
        raise
    except Exception as error:
        # One odd file among millions must not stop a run. With a bug of ours, every sample fails and the run stops.
        raise BadSampleError("unexpected", f"{clip.key}: {type(error).__name__}: {error}") from error


@lru_cache
def _sizes_of_area(height: int, width: int, step: int, max_aspect: float) -> tuple[tuple[int, int], ...]:
    found = {(height, width)}
    for other in range(step, int(math.sqrt(height * width * max_aspect)) + 1, step):
        partner = max(1, round(height * width / other / step)) * step
        if max(other, partner) <= max_aspect * min(other, partner):
            found |= {(other, partner), (partner, other)}
    return tuple(sorted(found))


def _framer(config: CuttingConfig, rng: random.Random) -> Framer:
    sizes = config.sizes
    x, y, mirrored = rng.random(), rng.random(), rng.random() < 0.5
    if config.crop == "center":
        x = y = 0.5

    def frame(height: int, width: int) -> Framing:
        shape = math.log(height / width)
        size = min(sizes, key=lambda size: abs(math.log(size[0] / size[1]) - shape))
        enlargement = max(size[0] / height, size[1] / width)
        if config.max_enlargement is not None and enlargement > config.max_enlargement:
            raise BadSampleError("too_small", f"{width}x{height} pixels are too few for {size[1]}x{size[0]}")
        return Framing(height=size[0], width=size[1], x=x, y=y, flip=config.flip and mirrored)

    return frame
