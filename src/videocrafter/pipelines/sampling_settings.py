"""Settings of the sampling loop: one object from the caller to `denoise`.

This module does not import torch, so that the command line can check settings before it loads anything heavy.
"""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from typing_extensions import Self

from videocrafter.diffusion.guidance import IMAGE_ONLY, Guidance, check_number
from videocrafter.pipelines.plain_numbers import plain_number, whole_number


@dataclass(frozen=True, kw_only=True)
class SamplingSettings(Guidance):
    """All settings of the sampling loop, guidance included.

    The settings are flat, not nested: wherever they appear (keyword arguments of the pipelines, `model_index.json`,
    recordings, the command line) each is known by the name of its field. Those places read the fields from here, so
    a new setting needs a field, its use, and an option on the command line.

    Raises ValueError for a value out of range; the message begins with the name of the field.

    Attributes:
        num_inference_steps: sampling steps, at least 1. The scheduler sets the upper limit.
        eta: share of fresh noise per DDIM step, from 0 (deterministic) to 1 (as DDPM).
        image_scale: weight of the image branch, at least 0; 1 as trained, 0 ignores the image.
    """

    num_inference_steps: int = 50
    eta: float = 0.0
    image_scale: float = field(default=1.0, metadata=IMAGE_ONLY)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("num_inference_steps", self.num_inference_steps, 1)
        if not isinstance(self.num_inference_steps, numbers.Integral):
            raise ValueError(f"num_inference_steps must be a whole number, but is {self.num_inference_steps!r}")
        check_number("eta", self.eta, 0, 1)
        check_number("image_scale", self.image_scale, 0)

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """Return a copy with these settings changed; None keeps a setting.

        Raises:
            TypeError: an unknown name.
            ValueError: a value out of range.
        """
        for name in changes:
            if name not in SETTING_NAMES:
                near = difflib.get_close_matches(name, SETTING_NAMES, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"unknown setting {name!r}{hint}")
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def to_config(self) -> dict[str, Any]:
        """Return the settings as a flat JSON object."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def check_without_image(self) -> None:
        """Raise ValueError if a setting is changed that has no effect on a model without image branch."""
        for one in fields(SamplingSettings):
            if one.name in IMAGE_SETTING_NAMES and getattr(self, one.name) != one.default:
                raise ValueError(
                    f"{one.name} needs an image-to-video model, but this model takes no image; leave it out or load"
                    " another model"
                )


SETTING_NAMES = tuple(one.name for one in fields(SamplingSettings))
"""All names, in the order of the fields."""
IMAGE_SETTING_NAMES = tuple(one.name for one in fields(SamplingSettings) if one.metadata == IMAGE_ONLY)
"""Names of the settings that have no effect without an image condition."""


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with numbers of other libraries as Python's; see `plain_number` for errors."""
    readers = {
        "guidance_interval": lambda _, value: value,
        "guidance_log_snr": lambda _, value: value,
        "num_inference_steps": whole_number,
    }
    return {
        name: value if value is None or name not in SETTING_NAMES else readers.get(name, plain_number)(name, value)
        for name, value in settings.items()
    }


def given_settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the sampling settings that are not None from the arguments of a call."""
    return {name: arguments[name] for name in SETTING_NAMES if arguments.get(name) is not None}
