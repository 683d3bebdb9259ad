"""LoRAs as `PATH[:WEIGHT]`: parse the text, and add the LoRAs to a pipeline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videocrafter.presets import is_run_folder

if TYPE_CHECKING:
    from videocrafter.pipelines.video_pipeline import VideoPipeline


@dataclass(frozen=True)
class LoraChoice:
    """A LoRA file, or a folder that holds one, and its weight."""

    path: Path
    weight: float = 1.0

    def __str__(self) -> str:
        return f"{self.path}:{self.weight:g}"


def parse_lora_option(text: str) -> LoraChoice:
    """Parse `PATH` or `PATH:WEIGHT`. A path that exists may itself contain colons.

    Raises ValueError if the path does not exist or the weight is not finite.
    """
    path, separator, number = text.rpartition(":")
    weight = _as_number(number) if separator and not Path(text).exists() else None
    choice = LoraChoice(Path(text)) if weight is None else LoraChoice(Path(path), weight)
    if not choice.path.exists():
        raise ValueError(f"`lora` {text!r}: {choice.path} does not exist; give a file or folder, PATH or PATH:WEIGHT")
    if not math.isfinite(choice.weight):
        raise ValueError(f"`lora` {text!r}: the weight must be a finite number, such as 0.8")
    return choice


def holds_student(choices: Sequence[LoraChoice]) -> bool:
    """Whether one of the LoRAs was distilled, so that its own steps are the only ones that fit."""
    from videocrafter.pipelines.few_step_settings import is_student
    from videocrafter.pipelines.lora_source import locate_lora

    return any(is_student(locate_lora(choice.path)) for choice in choices)


def add_loras(pipeline: VideoPipeline, choices: Sequence[LoraChoice]) -> list[str]:
    """Load LoRAs into a pipeline that has none; return notes for the user, one line each.

    Raises ValueError for a file that is not a LoRA, or one for another model.
    """
    loaded = [pipeline.load_lora_weights(choice.path) for choice in choices]
    if loaded:
        pipeline.set_adapters([one.adapter_name for one in loaded], [choice.weight for choice in choices])
    runs = [choice.path for choice in choices if is_run_folder(choice.path)]
    notes = [f"{path} is a training run; using its result, {path / 'final'}" for path in runs]
    return notes + [f"{choice.path}: {one.note}" for choice, one in zip(choices, loaded, strict=True) if one.note]


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
