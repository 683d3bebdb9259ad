"""Plan the memory of a generation for a model, by name or folder, and a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from videocrafter.checkpoints.hub.obtain import obtain_model
from videocrafter.checkpoints.official.meta_networks import build_networks
from videocrafter.checkpoints.official.variants import official_variant
from videocrafter.generation.errors import NotEnoughMemoryError
from videocrafter.generation.memory_check import USABLE_SHARE, requested_workload, size_in_words
from videocrafter.generation.memory_plan import GenerationPlan, Kind, PlannedRun
from videocrafter.generation.operations import count_operations
from videocrafter.generation.request import GenerateOptions
from videocrafter.pipelines.generation_memory import (
    Parameters,
    available_memory,
    count_parameters,
    network_configs,
    parameters_of,
    with_defaults,
)
from videocrafter.pipelines.model_folder import PIPELINE_TASKS, read_model_index
from videocrafter.pipelines.settings import GenerationDefaults
from videocrafter.presets import PRESETS, Task

USUAL_PEAK: Mapping[str, float] = {"gpu": 3.12e14, "cpu": 2.5e11}
"""Assumed peak operations per second: an A100's in bf16; that of some cores of a CPU."""
USUAL_UTILISATION = 0.4
"""Assumed share of the peak that is achieved."""


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Configs, sizes and recommended settings of a model."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    parameters: Parameters
    defaults: GenerationDefaults


def size_of_model(name: str) -> ModelSize:
    """Return the size of an official model by name, without downloading it, or of a folder or a shipped model.

    Raises ValueError or OSError if the model is unknown or cannot be read.
    """
    official = official_variant(name)
    if official is None:
        preset = PRESETS.get(name)
        return size_of_folder(obtain_model(name, "t2v" if preset is None else preset.task))
    networks = build_networks(official)
    sizes = {part: [one.numel() for one in network.parameters()] for part, network in networks.items()}
    return ModelSize(
        unet=with_defaults("unet", official.unet),
        vae=with_defaults("vae", official.vae),
        parameters=parameters_of(sizes),
        defaults=GenerationDefaults.from_config(PRESETS[name].defaults),
    )


def task_of_model(name: str) -> Task:
    """Return the task of an official model by name, or of a folder or a shipped model.

    Raises ValueError or OSError if the model is unknown or cannot be read.
    """
    preset = PRESETS.get(name)
    if preset is not None:
        return preset.task
    return PIPELINE_TASKS[read_model_index(obtain_model(name, "t2v"))["_class_name"]]


def size_of_folder(folder: Path) -> ModelSize:
    """Return the size of the model in a pipeline folder."""
    unet, vae = network_configs(folder)
    defaults = GenerationDefaults.from_config(read_model_index(folder).get("defaults"))
    return ModelSize(unet=unet, vae=vae, parameters=count_parameters(folder), defaults=defaults)


def planned_run(
    options: GenerateOptions, model: ModelSize, kind: Kind, dtype: torch.dtype, rate: float | None = None
) -> PlannedRun:
    """Return the plans of a run's largest batch; `rate` is in operations per second, None for a usual device."""
    workload = requested_workload(options, model.defaults, dtype.itemsize)
    return PlannedRun(
        unet=model.unet,
        vae=model.vae,
        parameters=model.parameters,
        workload=workload,
        kind=kind,
        operations=count_operations(model.unet, model.vae, workload, model.defaults.with_changes(options.sampling)),
        rate=USUAL_PEAK[kind] * USUAL_UTILISATION if rate is None else rate,
    )


def choose_plan(options: GenerateOptions, folder: Path, device: torch.device, dtype: torch.dtype) -> GenerationPlan:
    """Return the fastest plan of a run that fits on a device, an exact one if possible.

    If the available memory is unknown or is to be ignored, return the exact plan that needs least.

    Raises NotEnoughMemoryError if nothing fits.
    """
    run = planned_run(options, size_of_folder(folder), "cpu" if device.type == "cpu" else "gpu", dtype)
    available = available_memory(device)
    chosen = None if available is None else run.fastest(int(USABLE_SHARE * available))
    if chosen is not None:
        return chosen
    least = min((plan for plan in run.plans() if plan.saving.is_exact), key=lambda plan: plan.need.total)
    if available is None or options.ignore_memory:
        return least
    raise NotEnoughMemoryError(
        f"generation needs about {size_in_words(least.need.total)} of memory even with all exact ways to save it"
        f" ({least.saving}), but {device} has {size_in_words(available)} left; make a smaller or shorter video",
        is_estimate=True,
    )
