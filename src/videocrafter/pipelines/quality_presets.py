"""Presets of speed against quality: sampler, steps and guidance under one word.

Every model has the same three. A model stores its own values in its folder, in the recommended settings
(`GenerationDefaults.presets`); a preset that it does not store takes the value of `PRESETS`.

This module does not import torch, so that the command line can check settings before it loads anything heavy.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

from videocrafter.pipelines.sampling_settings import SETTING_NAMES, SamplingSettings

Preset = Literal["quality", "fast", "draft"]

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "quality": {},
        "fast": {"scheduler": "dpm++2m", "num_inference_steps": 12},
        "draft": {"scheduler": "dpm++2m", "num_inference_steps": 6},
    }
)
"""Settings of each preset; "quality" is what the model recommends, unless its folder says otherwise."""
_ALLOWED = ("model", "scheduler", *SETTING_NAMES)


def preset_settings(name: str, defaults: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings of a preset for a model: sampling settings by name, "scheduler", and "model".

    "model" names another model, which the preset takes instead: "quality" of a student takes its teacher.

    Args:
        name: "quality", "fast" or "draft".
        defaults: the model's recommended settings, as its folder stores them. They are all there is for a distilled
            model without presets of its own, since other steps are outside its training, and for a model that
            recommends as few steps as the preset or fewer.

    Raises:
        ValueError: an unknown preset, or the stored one is wrong.
    """
    check_preset(name)
    given = dict(defaults or {})
    stored = given.get("presets") or {}
    check_presets(stored)
    if name in stored:
        return dict(stored[name])
    settings = dict(PRESETS[name])
    own_steps = _own_steps(given)
    is_quick = own_steps is not None and own_steps <= settings.get("num_inference_steps", 0)
    return {} if given.get("step_counts") or is_quick else settings


def quickest_preset(defaults: Mapping[str, Any] | None) -> tuple[str, int | None]:
    """Return a model's preset with the fewest steps, and their number; None if nothing says it.

    Raises:
        ValueError: the model's stored presets are wrong.
    """
    own_steps = _own_steps(defaults or {})
    steps: dict[str, int | None] = {
        name: preset_settings(name, defaults).get("num_inference_steps", own_steps) for name in PRESETS
    }
    quickest = min(steps, key=lambda name: steps[name] or math.inf)
    return quickest, steps[quickest]


def _own_steps(defaults: Mapping[str, Any]) -> int | None:
    steps = defaults.get("num_inference_steps")
    return steps if isinstance(steps, int) else None


def check_preset(name: str) -> None:
    """Raise ValueError for a preset that does not exist."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"unknown preset {name!r}.{hint} Choose one of {', '.join(PRESETS)}.")


def check_presets(presets: Any) -> None:
    """Raise ValueError unless these are presets as a model's folder stores them, or None."""
    if presets is None:
        return
    if not isinstance(presets, Mapping) or not all(isinstance(one, Mapping) for one in presets.values()):
        raise ValueError(f"presets in a model's defaults is {str(presets)[:80]!r}, expected settings by preset")
    unknown = sorted(set(presets) - set(get_args(Preset)))
    if unknown:
        raise ValueError(f"presets in a model's defaults has {unknown}; allowed are {', '.join(get_args(Preset))}")
    for name, settings in presets.items():
        strange = sorted(set(settings) - set(_ALLOWED))
        if strange:
            raise ValueError(f"the preset {name!r} in a model's defaults sets {strange}; allowed are {_ALLOWED}")
        for key in ("model", "scheduler"):
            value = settings.get(key)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"the preset {name!r} in a model's defaults has the {key} {value!r}, not a name")
        if "model" in settings and "num_inference_steps" not in settings:
            raise ValueError(
                f"the preset {name!r} in a model's defaults takes another model; it must also give"
                " num_inference_steps, which are shown for it"
            )
        SamplingSettings(**{key: value for key, value in settings.items() if key in SETTING_NAMES})
