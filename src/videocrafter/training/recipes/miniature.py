"""Recipes of the models that ship with the package; `runs/tiny.sh` reproduces those models from scratch."""

from __future__ import annotations

from dataclasses import replace

from videocrafter.data.sprite_world.world import SUBJECTS, SpriteWorldConfig
from videocrafter.training.config import OptimizerConfig, RecipeConfig, StageConfig
from videocrafter.training.miniature.autoencoder import AutoencoderTaskConfig
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.miniature.judge import JudgeTaskConfig
from videocrafter.training.miniature.networks import MiniatureNetwork, NoiseConfig
from videocrafter.training.miniature.towers import ContrastiveTaskConfig

_GATE_MOTIONS = ("left", "right", "up", "down", "growing", "shrinking", "spinning", "still")


def tiny_vae() -> RecipeConfig:
    """The miniature's frame-wise autoencoder: 8x downsampling, 16 latent channels."""
    reconstruct = StageConfig(
        name="reconstruct",
        task=AutoencoderTaskConfig(),
        num_steps=2800,
        optimizer=OptimizerConfig(lr=2e-3, decay="cosine", final_lr_fraction=0.02),
        checkpoint_seconds=180,
        sample_every=1500,
    )
    refine = replace(
        reconstruct,
        name="refine",
        task=AutoencoderTaskConfig(sizes=(64, 64, 64, 32), edge_weight=0.5),
        num_steps=3500,
    )
    return RecipeConfig(name="tiny-vae", stages=(reconstruct, refine))


def tiny_clip() -> RecipeConfig:
    """The miniature's text and image towers, trained contrastively on captioned clips and images."""
    contrast = StageConfig(
        name="contrast",
        task=ContrastiveTaskConfig(),
        num_steps=450,
        optimizer=OptimizerConfig(lr=1e-3, warmup_steps=50),
        ema_decay=0.99,
        checkpoint_seconds=180,
        validate_every=150,
        sample_every=0,
    )
    words = replace(
        contrast,
        name="words",
        task=ContrastiveTaskConfig(word_weight=1.0),
        num_steps=300,
        optimizer=OptimizerConfig(lr=1e-3, warmup_steps=30, decay="cosine", final_lr_fraction=0.02),
    )
    return RecipeConfig(name="tiny-clip", stages=(contrast, words))


def tiny_t2v() -> RecipeConfig:
    """Text to video in miniature: first a small, plain world, then the whole world, then full resolution.

    As in the paper, images and videos are trained jointly, and low resolution comes first.
    """
    gate, low = _low_resolution_stages()
    return RecipeConfig(name="tiny-t2v", stages=(gate, low, *_full_resolution_stages(low)))


def _low_resolution_stages() -> tuple[StageConfig, StageConfig]:
    world = SpriteWorldConfig(height=32, width=32)
    gate_task = VideoDiffusionTaskConfig(
        world=replace(world, subjects=SUBJECTS[:12], motions=_GATE_MOTIONS, plain_scenes=True),
        noise=NoiseConfig(snr_shift=16),
        num_clips=24_576,
        num_images=8_192,
        batch_size=16,
        image_batch_size=32,
    )
    gate = StageConfig(
        name="gate",
        task=gate_task,
        num_steps=1000,
        # Two forward passes per step, so that two processes can share them.
        optimizer=OptimizerConfig(lr=1e-3, accumulate=2),
        ema_decay=0.998,
        checkpoint_seconds=180,
        validate_every=100,
        sample_every=500,
    )
    whole_world = replace(gate_task, world=world, num_clips=65_536, num_images=32_768)
    low = replace(
        gate,
        name="low",
        task=whole_world,
        num_steps=2290,
        validate_every=250,
        sample_every=1000,
    )
    return gate, low


def _full_resolution_stages(low: StageConfig) -> tuple[StageConfig, ...]:
    assert isinstance(low.task, VideoDiffusionTaskConfig)
    task = replace(
        low.task,
        world=SpriteWorldConfig(),
        noise=NoiseConfig(snr_shift=36),
        num_clips=32_768,
        num_images=16_384,
    )
    high = replace(
        low,
        name="high",
        task=task,
        num_steps=1233,
        optimizer=OptimizerConfig(lr=1e-3, accumulate=2, warmup_steps=50, decay="cosine", final_lr_fraction=0.12),
        ema_decay=0.999,
    )
    # Motion is decided at high noise levels and has been learned by now; appearance is decided at low ones.
    detail = replace(
        high,
        name="detail",
        task=replace(task, timestep_power=2.0, num_clips=8_192, num_images=4_096),
        num_steps=350,
        optimizer=OptimizerConfig(lr=6e-4, accumulate=2, warmup_steps=20, decay="cosine", final_lr_fraction=0.02),
    )
    # Train as long as affordable at all noise levels: frames sharpen while the learning rate falls.
    more = replace(task, num_clips=49_152, num_images=32_768, image_batch_size=64, image_share=0.2)
    settle = replace(
        high,
        name="settle",
        task=replace(more, timestep_power=1.5),
        num_steps=2100,
        optimizer=OptimizerConfig(lr=1e-3, accumulate=2, warmup_steps=50, decay="cosine", final_lr_fraction=0.02),
        ema_decay=0.9985,
    )
    polish = replace(
        settle,
        name="polish",
        task=replace(more, timestep_power=1.25),
        num_steps=1200,
        optimizer=OptimizerConfig(lr=7e-4, accumulate=2, warmup_steps=30, decay="cosine", final_lr_fraction=0.02),
    )
    return high, detail, settle, polish


def smoke() -> RecipeConfig:
    """Run every part of `tiny-t2v` at toy size in seconds, for tests and a first try. It learns nothing useful."""
    # The stages after "high" differ from it in hyperparameters only.
    gate, low, high, *_ = tiny_t2v().stages
    return RecipeConfig(name="smoke", stages=tuple(_toy_stage(stage) for stage in (gate, low, high)))


def _toy_stage(stage: StageConfig) -> StageConfig:
    assert isinstance(stage.task, VideoDiffusionTaskConfig)
    task = replace(
        stage.task,
        network=MiniatureNetwork(model_channels=16, head_dim=8, norm_groups=8, initial_temporal_heads=1),
        num_clips=32,
        num_images=32,
        batch_size=4,
        image_batch_size=8,
        block_size=4,
        image_share=0.25,
        num_gauged=2,
        num_samples=2,
        sampling_steps=2,
    )
    return replace(
        stage,
        task=task,
        num_steps=4,
        # Timing the precisions would take longer than the stage.
        precision="fp32",
        optimizer=replace(stage.optimizer, warmup_steps=2),
        log_every=1,
        validate_every=4,
        sample_every=4,
        checkpoint_every=2,
    )


def tiny_judge() -> RecipeConfig:
    """The exam's judge: a supervised classifier of rendered clips, independent of the model's own CLIP."""
    return RecipeConfig(name="tiny-judge", stages=(judge_stage(JudgeTaskConfig()),))


def judge_stage(task: JudgeTaskConfig) -> StageConfig:
    """The stage that trains a judge."""
    return StageConfig(
        name="judge",
        task=task,
        num_steps=1400,
        optimizer=OptimizerConfig(lr=2e-3, betas=(0.9, 0.99), decay="cosine", warmup_steps=100),
        ema_decay=0.995,
        checkpoint_seconds=180,
        validate_every=700,
    )
