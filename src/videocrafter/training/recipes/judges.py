"""Recipes of the exam's judges: classifiers of rendered clips, independent of the models that they judge."""

from __future__ import annotations

from dataclasses import replace

from videocrafter.data.sprite_world.world import MINIATURE_WORLD
from videocrafter.training.config import OptimizerConfig, RecipeConfig, StageConfig
from videocrafter.training.miniature.degradation import Degradation
from videocrafter.training.miniature.judge import JudgeTaskConfig


def tiny_judge() -> RecipeConfig:
    """The judge of subjects, motions and scenes: small clips first, then those of the miniature's size.

    It sees frames averaged down to 64 pixels in both.
    """
    small = StageConfig(
        name="small",
        task=JudgeTaskConfig(),
        num_steps=1400,
        optimizer=OptimizerConfig(lr=2e-3, betas=(0.9, 0.99), decay="cosine", warmup_steps=100),
        ema_decay=0.995,
        checkpoint_seconds=180,
        validate_every=700,
    )
    full = replace(
        small,
        name="full",
        task=JudgeTaskConfig(world=replace(MINIATURE_WORLD, position_jitter=0.25), batch_size=8, num_validation=32),
        num_steps=120,
        optimizer=OptimizerConfig(lr=5e-4, betas=(0.9, 0.99), decay="cosine", warmup_steps=10),
        ema_decay=0.97,
    )
    return RecipeConfig(name="tiny-judge", stages=(small, full))


def tiny_second_judge() -> RecipeConfig:
    """A judge for subjects alone: blur and random hues in training, so that it must know their shape."""
    task = JudgeTaskConfig(
        world=replace(MINIATURE_WORLD, position_jitter=0.25),
        degradation=Degradation(blurred_share=0.7, smallest_side=0.3, recoloured_share=1.0, brightness=0.4),
        stills=True,
        batch_size=48,
        num_validation=32,
    )
    stills = replace(
        tiny_judge().stages[0],
        name="stills",
        task=task,
        num_steps=600,
        optimizer=OptimizerConfig(lr=1e-3, betas=(0.9, 0.99), decay="cosine", warmup_steps=20),
        ema_decay=0.98,
    )
    longer = replace(stills, name="longer", num_steps=510)
    return RecipeConfig(name="tiny-second-judge", init="judge", stages=(stills, longer))
