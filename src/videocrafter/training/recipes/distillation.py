"""Recipes that turn a pipeline into one that samples in four steps without guidance.

Two stages: guided segment-consistency distillation, then trajectory distribution matching. Both are short: students
get worse when they are trained too long. `docs/distillation.md` gives the reasons for the values.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from videocrafter.data.cutting import CuttingConfig
from videocrafter.data.loader_config import LoaderConfig
from videocrafter.training.config import OptimizerConfig, RecipeConfig, StageConfig
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.miniature.distillation import VideoDistillationTaskConfig
from videocrafter.training.recipes.miniature import tiny_t2v
from videocrafter.training.recipes.paper import clip_sampling
from videocrafter.training.video.clip_distillation import ClipDistillationTaskConfig
from videocrafter.training.video.distillation_config import Distillation
from videocrafter.training.video.lora import LoraTraining
from videocrafter.training.video.task_config import SampleConfig


def tiny_distill() -> RecipeConfig:
    """The miniature in four steps without guidance. The shipped student is the result of the first stage."""
    teacher = tiny_t2v().stages[-1].task
    assert isinstance(teacher, VideoDiffusionTaskConfig)
    task = VideoDistillationTaskConfig(
        world=teacher.world, num_clips=2048, batch_size=4, block_size=4, distillation=Distillation()
    )
    consistency = StageConfig(
        name="consistency",
        task=task,
        num_steps=250,
        optimizer=OptimizerConfig(
            lr=2e-4,
            betas=(0.9, 0.99),
            weight_decay=0.0,
            warmup_steps=20,
            decay="cosine",
            final_lr_fraction=0.0,
            accumulate=2,
        ),
        ema_decay=0.98,
        checkpoint_seconds=180,
        checkpoint_every=125,
        validate_every=125,
        sample_every=125,
        keep_every=125,
    )
    matching = replace(
        consistency,
        name="matching",
        task=replace(task, distillation=replace(task.distillation, method="matching")),
        num_steps=500,
        optimizer=replace(consistency.optimizer, lr=3e-5, betas=(0.0, 0.95), warmup_steps=20, decay="constant"),
        ema_decay=0.99,
        checkpoint_every=100,
        validate_every=100,
        sample_every=100,
        keep_every=100,
    )
    return RecipeConfig(name="tiny-distill", init="tiny-t2v", stages=(consistency, matching))


def distill() -> RecipeConfig:
    """Any pipeline in four steps without guidance; trains the whole video network."""
    return RecipeConfig(name="distill", stages=_stages(lora=None))


def distill_lora() -> RecipeConfig:
    """The same as a LoRA, on one GPU: teacher, student and fake score share one frozen network."""
    return RecipeConfig(name="distill-lora", stages=_stages(lora=LoraTraining(rank=64, layers="all")))


def _stages(lora: LoraTraining | None) -> tuple[StageConfig, StageConfig]:
    task = ClipDistillationTaskConfig(
        data=LoaderConfig(batch_size=1, cutting=CuttingConfig(sampling=clip_sampling())),
        frames_like_start=True,
        lora=lora,
        distillation=Distillation(target_decay=0.95),
        samples=SampleConfig(num_inference_steps=None),
    )
    consistency = StageConfig(
        name="consistency",
        task=task,
        num_steps=4000,
        optimizer=OptimizerConfig(
            lr=1e-5, betas=(0.9, 0.999), weight_decay=0.0, warmup_steps=100, decay="constant", accumulate=4
        ),
        ema_decay=0.999,
        log_every=10,
        validate_every=250,
        sample_every=250,
        checkpoint_every=250,
        keep_every=1000,
    )
    matching = replace(
        consistency,
        name="matching",
        task=replace(task, distillation=replace(task.distillation, method="matching", target_decay=0.0)),
        num_steps=1000,
        optimizer=replace(consistency.optimizer, lr=2e-5, betas=(0.0, 0.95), warmup_steps=20, accumulate=8),
        ema_decay=0.99,
        validate_every=100,
        sample_every=100,
        checkpoint_every=100,
        keep_every=100,
    )
    return consistency, matching


def with_teacher(recipe: RecipeConfig) -> RecipeConfig:
    """Return a recipe in which stages that distill and name no teacher have the recipe's start as theirs."""
    stages = []
    for stage in recipe.stages:
        task: Any = stage.task
        settings = getattr(task, "distillation", None)
        if settings is not None and settings.teacher is None:
            task = replace(task, distillation=replace(settings, teacher=recipe.init))
        stages.append(replace(stage, task=task))
    return replace(recipe, stages=tuple(stages))
