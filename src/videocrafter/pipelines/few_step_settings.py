"""A student's scheduler and recommended settings, and their record in the header of a LoRA."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from videocrafter.checkpoints.file_content import checkpoint_format
from videocrafter.diffusion.schedulers import build_scheduler

HEADER_KEY = "videocrafter_few_steps"
"""Key of a student's timesteps in a LoRA file's header, as JSON: `times`, and `alphas_cumprod` at these."""
_TOLERANCE = 1e-3


def with_few_steps(pipeline: Any, times: Sequence[int]) -> None:
    """Turn a pipeline into that of a student: its own timesteps, no guidance, and a record of both.

    Args:
        times: the timesteps of its steps, descending.
    """
    pipeline.scheduler = build_scheduler("few-step", {**pipeline.scheduler.config, "few_step_times": list(times)})
    defaults = replace(
        pipeline.generation_defaults,
        num_inference_steps=len(times),
        step_counts=(len(times),),
        few_step_times=tuple(times),
        guidance_scale=1.0,
        image_guidance_scale=None,
        temporal_guidance_scale=0.0,
        guidance_rescale=0.0,
        guidance_interval=(0.0, 1.0),
        eta=0.0,
        negative_prompt="",
        scheduler="few-step",
        presets=None,
    )
    pipeline.register_to_config(defaults=defaults.to_config())


@dataclass(frozen=True, kw_only=True)
class Students:
    """The distilled LoRAs of a pipeline, and what they replaced.

    Attributes:
        scheduler, defaults: the pipeline's scheduler and recommended settings without these LoRAs.
        times: timesteps by name of the LoRA, in the order of loading; the last one's are in use.
    """

    scheduler: Any
    defaults: Mapping[str, Any] | None
    times: Mapping[str, tuple[int, ...]]


def add_student(pipeline: Any, students: Students | None, name: str, times: tuple[int, ...]) -> Students:
    """Give a pipeline the steps of a LoRA that was just loaded; return its students with the new one."""
    if students is None:
        students = Students(scheduler=pipeline.scheduler, defaults=pipeline.config["defaults"], times={})
    with_few_steps(pipeline, times)
    return replace(students, times={**students.times, name: times})


def drop_students(pipeline: Any, students: Students | None, names: Sequence[str]) -> Students | None:
    """Take the steps of deleted LoRAs away; return the students that are left, or None.

    If the steps in use came from one of them, those of the last student left return, or the pipeline's own.
    """
    if students is None:
        return None
    left = {name: times for name, times in students.times.items() if name not in names}
    if list(students.times)[-1] in names:
        pipeline.scheduler = students.scheduler
        pipeline.register_to_config(defaults=students.defaults)
        if left:
            with_few_steps(pipeline, list(left.values())[-1])
    return replace(students, times=left) if left else None


def few_step_header(scheduler: Any) -> dict[str, str]:
    """Return the entry of a LoRA file's header for a student with this `FewStepScheduler`."""
    levels = [round(float(scheduler.alphas_cumprod[time]), 6) for time in scheduler.times]
    return {HEADER_KEY: json.dumps({"times": list(scheduler.times), "alphas_cumprod": levels})}


def lora_times(path: Path, scheduler: Any) -> tuple[int, ...] | None:
    """Return the timesteps that a LoRA file was distilled for; None for other LoRAs.

    Args:
        path: a file that `read_lora` has read, so that damaged files are refused with its errors.
        scheduler: of the pipeline that the LoRA is for.

    Raises:
        ValueError: the LoRA was distilled on another noise schedule, or its header is damaged.
    """
    text = _record(path)
    if text is None:
        return None
    try:
        record: Mapping[str, Any] = json.loads(text)
        times, levels = [int(time) for time in record["times"]], [float(level) for level in record["alphas_cumprod"]]
        own = [float(scheduler.alphas_cumprod[time]) for time in times]
        is_same = torch.allclose(torch.tensor(own), torch.tensor(levels), atol=_TOLERANCE)
    except (ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        raise ValueError(f"the time steps in {path} cannot be read ({error}); use an intact copy of it") from error
    if not is_same:
        raise ValueError(
            f"{path} was distilled on another noise schedule than this model's; load it into the model that it was"
            " distilled from"
        )
    return tuple(times)


def is_student(path: Path) -> bool:
    """Whether a LoRA file was distilled; False for a file that cannot be read."""
    try:
        return _record(path) is not None
    except (OSError, SafetensorError):
        return False


def _record(path: Path) -> str | None:
    if checkpoint_format(path) != "safetensors":
        return None
    with safe_open(path, framework="pt") as file:
        text: str | None = (file.metadata() or {}).get(HEADER_KEY)
    return text
