"""Columns of models: their settings, as written in arguments, and the stages of a training run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videocrafter.evaluation.generated_set import OPTION_NAMES
from videocrafter.presets import MODEL_INDEX

_SHORT = {"steps": "num_inference_steps", "guidance": "guidance_scale"}
_WHOLE = frozenset({"num_frames", "height", "width"})


@dataclass(frozen=True, kw_only=True)
class ModelColumn:
    """A model with its settings.

    Attributes:
        model: name or folder.
        settings: options of `videocrafter generate` by name: "num_inference_steps", "scheduler" …
    """

    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def parse_setting(text: str) -> tuple[str, Any]:
    """Parse `name=value` into an option of generation.

    Raises:
        ValueError: the option is unknown, or the value has the wrong type.
    """
    name, equals, value = text.partition("=")
    name = _SHORT.get(name.strip(), name.strip())
    if not equals or name not in OPTION_NAMES:
        known = ", ".join(sorted(OPTION_NAMES))
        raise ValueError(f"{text!r} is not a setting; write name=value with a name from {known}")
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    if name in _WHOLE and not isinstance(parsed, int):
        raise ValueError(f"{name} is {value!r}; expected a whole number")
    return name, parsed


def stage_folders(run: Path) -> dict[str, Path]:
    """Return the models that a training run published, one per stage, in the order of training.

    Raises:
        ValueError: the run has not finished a stage with a model for videos.
    """
    found = [path.parent for path in (run / "stages").glob(f"*/{MODEL_INDEX}")]
    if not found:
        raise ValueError(f"{run} has not finished a stage yet: {run / 'stages'} contains no model for videos")
    return {folder.name: folder for folder in sorted(found, key=lambda one: (one / MODEL_INDEX).stat().st_mtime_ns)}
