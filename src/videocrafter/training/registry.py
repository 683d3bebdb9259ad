"""The tasks that a stage can train: for each config, the task that it builds and the work that a plan counts.

To add a task, write its config and its task (see `task.py`), and register them here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from videocrafter.training.config import StageConfig
from videocrafter.training.miniature.autoencoder import AutoencoderTask, AutoencoderTaskConfig
from videocrafter.training.miniature.diffusion import VideoDiffusionTask
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.miniature.diffusion_work import diffusion_work
from videocrafter.training.miniature.distillation import VideoDistillationTask, VideoDistillationTaskConfig
from videocrafter.training.miniature.judge import JudgeTask, JudgeTaskConfig
from videocrafter.training.miniature.small_work import autoencoder_work, contrastive_work, judge_work
from videocrafter.training.miniature.stills import StillsTask, StillsTaskConfig
from videocrafter.training.miniature.towers import ContrastiveTask, ContrastiveTaskConfig
from videocrafter.training.task import Task, TaskConfig
from videocrafter.training.video.clip_distillation import ClipDistillationTask, ClipDistillationTaskConfig
from videocrafter.training.video.clip_work import clip_work
from videocrafter.training.video.planned_start import DISTILLED_START, NO_START, STABLE_DIFFUSION_START, PlannedStart
from videocrafter.training.video.task import ClipDiffusionTask
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig
from videocrafter.training.video.work import StageWork


@dataclass(frozen=True)
class _Entry:
    """The entry of a config.

    Attributes:
        build: makes the task; arguments as for `build_task`.
        work: makes the work of a stage from the stage, its config, the planned start and the device; None for a task
            that cannot be planned.
        usual_start: start that a plan assumes if none is named.
    """

    build: Callable[..., Task]
    work: Callable[[StageConfig, Any, PlannedStart, torch.device], StageWork] | None = None
    usual_start: str | None = None


_REGISTRY: dict[type, _Entry] = {
    AutoencoderTaskConfig: _Entry(AutoencoderTask, autoencoder_work),
    ContrastiveTaskConfig: _Entry(ContrastiveTask, contrastive_work),
    JudgeTaskConfig: _Entry(JudgeTask, judge_work),
    StillsTaskConfig: _Entry(StillsTask.build, diffusion_work),
    VideoDiffusionTaskConfig: _Entry(VideoDiffusionTask.build, diffusion_work),
    VideoDistillationTaskConfig: _Entry(
        VideoDistillationTask.build, partial(diffusion_work, task_type=VideoDistillationTask)
    ),
    ClipDiffusionTaskConfig: _Entry(ClipDiffusionTask.build, clip_work, STABLE_DIFFUSION_START),
    ClipDistillationTaskConfig: _Entry(
        ClipDistillationTask.build, partial(clip_work, task_type=ClipDistillationTask), DISTILLED_START
    ),
}


def register(config: type, build: Callable[..., Task]) -> None:
    """Register a task that is defined elsewhere.

    Args:
        config: a frozen dataclass; see `TaskConfig`.
        build: makes the task; arguments as for `build_task`.
    """
    _REGISTRY[config] = _Entry(build)


def build_task(config: TaskConfig, start: Path | None, seed: int, stage_index: int, device: torch.device) -> Task:
    """Build the task of a config.

    Args:
        start: pipeline folder of the stage before, or the recipe's `init`; None begins with new networks.
        seed: the recipe's seed. The global generators must be seeded already, for initialisation.
        stage_index: position of the stage in its recipe, from 0.
        device: device of networks and batches.

    Raises:
        ValueError: the config, the start and the files that they name do not fit together; or the config's type is
            not registered.
    """
    return _entry(config).build(config, start, seed, stage_index, device)


def stage_work(stage: StageConfig, start: PlannedStart | None, device: torch.device) -> StageWork:
    """Return the work of a stage, with new networks on the meta device.

    Args:
        start: None begins with new networks.
        device: device on which the stage is to train.

    Raises:
        ValueError: as `build_task`, as far as that is known without weights; or the task cannot be planned.
    """
    work = _entry(stage.task).work
    if work is None:
        raise ValueError(f"it trains by {type(stage.task).__name__}, which cannot be planned")
    return work(stage, stage.task, start or NO_START, device)


def usual_start(config: TaskConfig) -> str | None:
    """Return the name of the start that a plan assumes if none is named; None for a task that needs none."""
    return _entry(config).usual_start


def _entry(config: TaskConfig) -> _Entry:
    for kind in type(config).__mro__:
        if kind in _REGISTRY:
            return _REGISTRY[kind]
    known = ", ".join(kind.__name__ for kind in _REGISTRY)
    raise ValueError(f"no task is registered for {type(config).__name__}; registered are {known}")
