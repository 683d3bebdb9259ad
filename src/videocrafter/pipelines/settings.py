"""Settings of one generation: those that a model recommends, and those of a checked request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from videocrafter.pipelines.image_fit import ImageFit
from videocrafter.pipelines.quality_presets import check_presets
from videocrafter.pipelines.sampling_settings import SETTING_NAMES, SamplingSettings

_LARGEST = 10**6
_TENSORS = ("latents", "prompt_embeds", "negative_prompt_embeds")
LONGEST_IN_TRAINED_LENGTHS = 4
"""Frame limit of a model that sets none, as a multiple of its recommended number of frames."""


@dataclass(frozen=True, kw_only=True)
class GenerationDefaults(SamplingSettings):
    """Recommended settings of a model, stored in its `model_index.json` under `defaults`.

    A model may recommend any sampling setting; see `SamplingSettings` for those.

    Attributes:
        num_frames: frames per video in training.
        height, width: pixels.
        fps: motion speed (not the frame rate of the file).
        fps_range: motion speeds seen in training, (lowest, highest), or None if unknown.
        negative_prompt: prompt of the unconditional branch.
        scheduler: name of the scheduler in the folder, for information only; or None.
        max_num_frames: frame limit per video; None means four times `num_frames`.
        step_counts: numbers of sampling steps that a distilled model was trained for, without guidance; None for all
            other models.
        few_step_times: training timesteps of these steps, descending, for the scheduler "few-step"; or None.
        presets: settings by preset, for presets other than those of `quality_presets.py`.
    """

    num_frames: int = 16
    height: int = 320
    width: int = 512
    fps: float = 16.0
    fps_range: tuple[float, float] | None = None
    guidance_scale: float = 7.5
    negative_prompt: str = ""
    scheduler: str | None = None
    max_num_frames: int | None = None
    step_counts: tuple[int, ...] | None = None
    few_step_times: tuple[int, ...] | None = None
    presets: Mapping[str, Mapping[str, Any]] | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | None) -> Self:
        """Build from the `defaults` entry of a `model_index.json`. Raises ValueError for wrong keys or values."""
        values = dict(config or {})
        known = {one.name for one in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown keys in a model's defaults: {unknown}; allowed are {sorted(known)}")
        for name, value in values.items():
            _check_default(name, value)
        if values.get("fps_range") is not None:
            lowest, highest = values["fps_range"]
            values["fps_range"] = (float(lowest), float(highest))
        for name in ("step_counts", "few_step_times"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        return cls(**values)

    @property
    def longest(self) -> int:
        """Frame limit per video."""
        return self.max_num_frames or LONGEST_IN_TRAINED_LENGTHS * self.num_frames

    @property
    def scheduler_settings(self) -> dict[str, Any]:
        """Settings that a scheduler needs in addition to the noise schedule.

        A distilled model keeps its own timesteps, even after another sampler, whose config has no place for them.
        """
        return {} if self.few_step_times is None else {"few_step_times": list(self.few_step_times)}

    @property
    def sampling(self) -> SamplingSettings:
        """The sampling settings alone."""
        return SamplingSettings(**{name: getattr(self, name) for name in SETTING_NAMES})


def _check_default(name: str, value: Any) -> None:
    """Raise ValueError for a recommended value of the wrong type, or a size or speed that is not positive."""

    def is_number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST

    if name in ("negative_prompt", "scheduler"):
        fits = isinstance(value, str) or (value is None and name == "scheduler")
    elif name in ("num_frames", "height", "width", "num_inference_steps", "max_num_frames"):
        fits = isinstance(value, int) and is_number(value) and value > 0
        fits = fits or (value is None and name == "max_num_frames")
    elif name in ("fps_range", "guidance_interval", "guidance_log_snr"):
        fits = isinstance(value, list | tuple) and len(value) == 2 and all(is_number(one) for one in value)
        fits = fits or (value is None and name != "guidance_interval")
    elif name in ("step_counts", "few_step_times"):
        least = 1 if name == "step_counts" else 0
        fits = value is None or (
            isinstance(value, list | tuple)
            and len(value) > 0
            and all(isinstance(one, int) and is_number(one) and one >= least for one in value)
        )
    elif name == "presets":
        check_presets(value)
        fits = True
    elif name == "fps":
        fits = is_number(value) and value > 0
    else:
        fits = is_number(value) or (value is None and name == "image_guidance_scale")
    if not fits:
        raise ValueError(f"{name} in a model's defaults is {str(value)[:80]!r}, which is not valid")


@dataclass(frozen=True, kw_only=True)
class VideoRequest:
    """A checked request for N videos (prompts times videos per prompt), with every setting resolved.

    `prompts`, `negative_prompts`, `fps`, `seeds` and `generators` have one entry per video, in the order of the
    output: all videos of the first prompt, then of the second. A seed is None if the caller passed a generator.

    Attributes:
        latents: [N, C, T, h, w] initial noise from the caller; None draws it from the generators.
        prompt_embeds, negative_prompt_embeds: [N, L, D] text tokens from the caller; None encodes the prompts.
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
    sampling: SamplingSettings
    image_fit: ImageFit = "stretch"
    latents: Tensor | None = field(default=None, compare=False)
    prompt_embeds: Tensor | None = field(default=None, compare=False)
    negative_prompt_embeds: Tensor | None = field(default=None, compare=False)

    @property
    def num_videos(self) -> int:
        """Number of videos."""
        return len(self.prompts)

    def split(self, size: int) -> list[VideoRequest]:
        """Split into requests of at most `size` videos, each video with its own prompt."""
        per_video_fields = {
            name: value
            for name in ("prompts", "negative_prompts", "fps", "seeds", "generators", *_TENSORS)
            if (value := getattr(self, name)) is not None
        }
        return [
            replace(
                self,
                num_videos_per_prompt=1,
                **{name: value[start : start + size] for name, value in per_video_fields.items()},
            )
            for start in range(0, self.num_videos, size)
        ]


def per_video(
    value: Any, name: str, num_prompts: int, num_videos_per_prompt: int, kind: type | tuple[type, ...]
) -> list[Any]:
    """Repeat one value, or one per prompt, for every video. Raises ValueError for a wrong count or type."""
    if isinstance(value, kind):
        values = [value] * num_prompts
    elif isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, kind) for v in value):
        values = list(value)
    else:
        raise ValueError(f"{name} must be one value or a list with one per prompt, but is {value!r}")
    if len(values) != num_prompts:
        raise ValueError(f"{name} has {len(values)} values for {num_prompts} prompts; pass one, or one per prompt")
    return [value for value in values for _ in range(num_videos_per_prompt)]


def check_latents(latents: Any, shape: Sequence[int]) -> None:
    """Raise ValueError unless `latents` is a float tensor of this shape, [N, C, T, h, w]."""
    if isinstance(latents, Tensor) and latents.is_floating_point() and tuple(latents.shape) == tuple(shape):
        return
    given = f"{latents.dtype} {list(latents.shape)}" if isinstance(latents, Tensor) else type(latents).__name__
    raise ValueError(f"latents must be a float tensor {list(shape)}, the noise of all videos, but is {given}")


def check_size(name: str, value: int, multiple: int) -> None:
    """Raise ValueError unless `value` is a positive multiple; the message names the nearest ones."""
    if value > 0 and value % multiple == 0:
        return
    below, above = value // multiple * multiple, (value // multiple + 1) * multiple
    nearest = f"{above} is" if below <= 0 else f"{below} and {above} are"
    if value <= 0:
        nearest = f"{multiple} is"
    raise ValueError(f"{name} must be a multiple of {multiple}, but is {value}; {nearest} the nearest allowed")
