"""From a clip to the pixels of a sample: a pure function of the clip, a seed and the rules, done by a worker."""

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
    """How samples are cut out of clips.

    Attributes:
        sampling: which frames.
        height, width: size of samples in pixels.
        max_aspect: None gives all samples this size. Else there are more sizes of about the same area, up to this
            much longer than wide or wider than long, and a clip takes the one whose shape is nearest to its own.
        size_step: these sizes are multiples of it. 64 suits the official networks: they halve latents, which are 8
            times smaller than pixels, three times.
        crop: which part of a picture stays, where it is longer or wider than its size.
        flip: whether half of the samples are mirrored. Off, because captions say left and right, and pictures hold
            writing.
        max_enlargement: clips that would have to be enlarged more than this are left out; None enlarges all.
        require_captions: whether clips without a caption are left out; else their caption is empty.
        limits: what one sample may cost.
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
                    f"max_aspect is {self.max_aspect}, expected none, or {given:.3g} (as {self.height}x{self.width} "
                    f"has) to {MAX_ASPECT:g}"
                )
            if self.height % self.size_step or self.width % self.size_step:
                raise ValueError(
                    f"height {self.height} and width {self.width} must be multiples of size_step, {self.size_step}, "
                    "where max_aspect makes more sizes of them"
                )
        if self.crop not in ("center", "random"):
            raise ValueError(f"crop is {self.crop!r}, expected 'center' or 'random'")
        if self.max_enlargement is not None and not self.max_enlargement > 0:
            raise ValueError(f"max_enlargement is {self.max_enlargement}, expected a factor above 0, or none")

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Heights and widths of samples."""
        if self.max_aspect is None:
            return ((self.height, self.width),)
        return _sizes_of_area(self.height, self.width, self.size_step, self.max_aspect)


@dataclass(frozen=True, kw_only=True)
class CutClip:
    """What a clip gave.

    Attributes:
        pixels: uint8 `[T, H, W, 3]`.
        caption: what it shows.
        fps: the rate at which the frames follow each other.
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
    """One of the fixed cuts of a clip.

    Attributes:
        digest: a hash of all that the cut follows from.
        key: the clip's name, as in VideoSample.
        number: which cut of the clip, from 0.
    """

    digest: str
    key: str
    number: int


@dataclass(frozen=True, kw_only=True)
class KnownCut:
    """A cut that was not decoded, because somebody keeps what was made of it.

    Attributes:
        shape: of the pixels that it stands for, [T, H, W, 3].
        caption: what it shows.
        fps: the rate at which its frames follow each other.
        content: what is kept; nothing here looks inside.
    """

    shape: tuple[int, ...]
    caption: str
    fps: float
    content: object


def cut_clip(clip: Clip, kind: Kind, seed: int, config: CuttingConfig) -> CutClip:
    """Open, choose, decode and frame a clip.

    Raises:
        BadSampleError: it cannot be used.
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
        # One odd file among millions must not end a run. If the fault is ours, all samples fail and the run stops.
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
