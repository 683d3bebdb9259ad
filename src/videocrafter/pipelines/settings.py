"""Settings of one generation: what a model recommends, and what a request comes to once all is resolved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch

from videocrafter.pipelines.image_fit import ImageFit

LONGEST_IN_TRAINED_LENGTHS = 4
"""How many times the recommended number of frames a model may be asked for unless it says otherwise."""


@dataclass(frozen=True, kw_only=True)
class GenerationDefaults:
    """Recommended settings of a model, stored in its `model_index.json` under `defaults`.

    Attributes:
        num_frames: frames per video that the model was trained for.
        height, width: pixels.
        fps: motion speed asked of the model (not the frame rate of the file).
        fps_range: motion speeds seen in training, (lowest, highest), or None if not known.
        num_inference_steps, guidance_scale, guidance_rescale, eta, image_scale: of the sampling.
        negative_prompt: what the unconditional branch sees.
        scheduler: name of the scheduler that stands in the folder, for the record; or None.
        max_num_frames: most frames per video; None means four times `num_frames`.
    """

    num_frames: int = 16
    height: int = 320
    width: int = 512
    fps: float = 16.0
    fps_range: tuple[float, float] | None = None
    num_inference_steps: int = 50
    guidance_scale: float = 7.5
    guidance_rescale: float = 0.0
    eta: float = 0.0
    image_scale: float = 1.0
    negative_prompt: str = ""
    scheduler: str | None = None
    max_num_frames: int | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | None) -> GenerationDefaults:
        """Build from the `defaults` entry of a `model_index.json`; unknown keys raise ValueError."""
        values = dict(config or {})
        known = {one.name for one in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown keys in a model's defaults: {unknown}; allowed are {sorted(known)}")
        if values.get("fps_range") is not None:
            lowest, highest = values["fps_range"]
            values["fps_range"] = (float(lowest), float(highest))
        return cls(**values)

    def to_config(self) -> dict[str, Any]:
        """The JSON form; `from_config` reads it back."""
        values = asdict(self)
        if self.fps_range is not None:
            values["fps_range"] = list(self.fps_range)
        return values

    @property
    def longest(self) -> int:
        """Most frames per video that may be asked for."""
        return self.max_num_frames or LONGEST_IN_TRAINED_LENGTHS * self.num_frames


@dataclass(frozen=True, kw_only=True)
class VideoRequest:
    """A checked request for N videos (prompts times videos per prompt), with every setting resolved.

    `prompts`, `negative_prompts`, `fps` and `seeds` have one entry per video, in the order of the output:
    all videos of the first prompt, then of the second. A seed is None where the caller gave a generator.
    """

    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]
    fps: tuple[float, ...]
    seeds: tuple[int | None, ...]
    generators: tuple[torch.Generator, ...]
    num_videos_per_prompt: int
    num_frames: int
    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float
    guidance_rescale: float
    eta: float
    image_guidance_scale: float | None = None
    temporal_guidance_scale: float = 0.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    image_fit: ImageFit = "stretch"

    @property
    def num_videos(self) -> int:
        """How many videos the request is for."""
        return len(self.prompts)

    def split(self, size: int) -> list[VideoRequest]:
        """The same videos as requests of at most `size` videos, each its own prompt."""
        per_video_fields = ("prompts", "negative_prompts", "fps", "seeds", "generators")
        return [
            replace(
                self,
                num_videos_per_prompt=1,
                **{name: getattr(self, name)[start : start + size] for name in per_video_fields},
            )
            for start in range(0, self.num_videos, size)
        ]

    @property
    def is_guided(self) -> bool:
        """Classifier-free guidance costs a second branch, and at scales of 1 or below there is none."""
        return max(self.guidance_scale, self.image_guidance_scale or 0.0) > 1.0


def per_video(
    value: Any, name: str, num_prompts: int, num_videos_per_prompt: int, kind: type | tuple[type, ...]
) -> list[Any]:
    """Spread one value, or one per prompt, to one per video. Raises ValueError for another number or type."""
    if isinstance(value, kind):
        values = [value] * num_prompts
    elif isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, kind) for v in value):
        values = list(value)
    else:
        raise ValueError(f"{name} must be one value or a list with one per prompt; got {value!r}")
    if len(values) != num_prompts:
        raise ValueError(f"{name} has {len(values)} values for {num_prompts} prompts; give one, or one per prompt")
    return [value for value in values for _ in range(num_videos_per_prompt)]


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise ValueError unless a number is finite and at least `least`."""
    if not math.isfinite(value) or value < least:
        raise ValueError(f"{name} must be at least {least:g}, but is {value:g}")


def check_size(name: str, value: int, multiple: int) -> None:
    """Raise ValueError, naming the nearest sizes that are allowed, unless `value` is a positive multiple."""
    if value > 0 and value % multiple == 0:
        return
    below, above = value // multiple * multiple, (value // multiple + 1) * multiple
    nearest = f"{above} is" if below <= 0 else f"{below} and {above} are"
    if value <= 0:
        nearest = f"{multiple} is"
    raise ValueError(f"{name} must be a multiple of {multiple}, but is {value}; {nearest} the nearest allowed")
