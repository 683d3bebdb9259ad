"""Recipes of the miniature, 128 pixels and 16 frames, which ships with the package.

`runs/tiny.sh` runs all of them and those of `judges.py`, and so reproduces the shipped models from scratch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from videocrafter.data.sprite_world.world import MINIATURE_WORLD, MOTIONS
from videocrafter.training.config import OptimizerConfig, RecipeConfig, StageConfig
from videocrafter.training.miniature.autoencoder import AutoencoderTaskConfig
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.miniature.networks import MiniatureNetwork
from videocrafter.training.miniature.stills import StillsTaskConfig
from videocrafter.training.miniature.towers import ContrastiveTaskConfig
from videocrafter.training.task import TaskConfig

# Motions around a point take longest to learn, because they need the right moment as well as the right place.
_HARD_MOTIONS = 3 * ("bouncing", "orbiting") + 2 * ("spinning",)
_TRAINING_WORLD = replace(MINIATURE_WORLD, motions=MOTIONS + _HARD_MOTIONS)


def tiny_vae() -> RecipeConfig:
    """The miniature's frame-wise autoencoder: 8x downsampling, 16 latent channels.

    Noise on the latents prepares the decoder for those of the denoiser. `adversarial_weight` would add a
    discriminator; the lab log says why there is none yet.
    """
    reconstruct = StageConfig(
        name="reconstruct",
        task=AutoencoderTaskConfig(
            block_out_channels=(96, 128),
            sizes=(128, 128, 64),
            crop=64,
            batch_size=32,
            edge_weight=0.5,
            perceptual_weight=0.1,
            latent_noise=0.1,
        ),
        num_steps=3500,
        optimizer=OptimizerConfig(lr=2e-3, warmup_steps=50, decay="cosine", final_lr_fraction=0.05),
        checkpoint_seconds=180,
        validate_every=500,
        sample_every=500,
    )
    assert isinstance(reconstruct.task, AutoencoderTaskConfig)
    refine = replace(
        reconstruct,
        name="refine",
        task=replace(
            reconstruct.task,
            sizes=(128, 128, 128, 128, 64),
            edge_weight=0.75,
            perceptual_weight=0.05,
            latent_noise=0.05,
        ),
        num_steps=6000,
        optimizer=OptimizerConfig(lr=1.5e-3, warmup_steps=50, decay="cosine", final_lr_fraction=0.02),
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


def tiny_sd() -> RecipeConfig:
    """A miniature Stable Diffusion: images only, at the final resolution. Video models start from it."""
    images = StageConfig(
        name="images",
        task=StillsTaskConfig(
            world=MINIATURE_WORLD,
            num_images=131_072,
            image_batch_size=32,
        ),
        num_steps=20_000,
        optimizer=OptimizerConfig(
            lr=8e-4, warmup_steps=100, decay="1-sqrt", decay_share=0.25, final_lr_fraction=0.02
        ),
        ema_decay=0.999,
        checkpoint_seconds=180,
        validate_every=1000,
        sample_every=2000,
    )
    return RecipeConfig(name="tiny-sd", stages=(images,))


def tiny_t2v() -> RecipeConfig:
    """Text to video at 128 pixels, from the images of `tiny-sd`: images and videos jointly.

    Eight frames of 64 pixels come first, then sixteen, then the final size.
    """
    # Fewer frames at fewer frames per second: a clip lasts, and moves, as long and as far as one of 16 frames.
    low_task = VideoDiffusionTaskConfig(
        world=replace(_TRAINING_WORLD, height=64, width=64, num_frames=8, fps_range=(3.0, 12.0)),
        num_clips=16_384,
        num_images=8_192,
        batch_size=16,
        image_batch_size=16,
        image_share=0.4,
        image_scale=2,
    )
    low = StageConfig(
        name="low",
        task=low_task,
        num_steps=4000,
        optimizer=OptimizerConfig(lr=1e-3, accumulate=2, warmup_steps=100),
        ema_decay=0.998,
        checkpoint_seconds=180,
        validate_every=200,
        sample_every=1000,
    )
    # At 3 frames per second, fast hops and turns cannot be followed from one frame to the next; at 8 they can.
    long = replace(
        low,
        name="long",
        task=replace(low_task, world=replace(_TRAINING_WORLD, height=64, width=64)),
        num_steps=1500,
    )
    high = replace(
        low,
        name="high",
        task=replace(low_task, world=_TRAINING_WORLD, batch_size=8, image_scale=1, image_share=0.3, num_gauged=48),
        num_steps=4000,
        optimizer=OptimizerConfig(lr=1e-3, accumulate=2, warmup_steps=50, decay="cosine", final_lr_fraction=0.02),
        validate_every=400,
        sample_every=400,
    )
    return RecipeConfig(name="tiny-t2v", stages=(low, long, high))


def tiny_i2v() -> RecipeConfig:
    """Image to video at 128 pixels, from a finished `tiny-t2v`: the paper's two phases, low resolution first.

    `stages.*.task.image_tokens=global` trains the variant with one token for the whole image (paper, figure 5).
    """
    low, _, high = tiny_t2v().stages
    # Not in the paper: align the projector with the text tower first. This is cheap because the video network does
    # not run. The image encoder sees 64 pixels, and latents are not used: larger images would only take longer.
    align = replace(
        low,
        name="align",
        task=replace(
            _given_an_image(low.task, phase="image_alignment"),
            num_images=65_536,
            image_batch_size=48,
            image_share=1.0,
        ),
        num_steps=1500,
        optimizer=OptimizerConfig(lr=2e-3, accumulate=2, warmup_steps=50, decay="cosine", final_lr_fraction=0.02),
        ema_decay=0.99,
        validate_every=0,
        sample_every=0,
    )
    mapping = replace(
        low,
        name="mapping",
        task=_given_an_image(low.task, phase="image_mapping", alignment_weight=0.1),
        num_steps=300,
        optimizer=OptimizerConfig(lr=2e-3, accumulate=2, warmup_steps=20, decay="cosine", final_lr_fraction=0.02),
        ema_decay=0.99,
        validate_every=100,
        sample_every=300,
    )
    video_low = replace(
        mapping,
        name="low",
        task=_given_an_image(low.task, phase="image_to_video"),
        num_steps=1000,
        optimizer=OptimizerConfig(lr=8e-4, accumulate=2, warmup_steps=30),
        ema_decay=0.998,
        validate_every=250,
        sample_every=500,
    )
    video_high = replace(
        video_low,
        name="high",
        task=_given_an_image(high.task, phase="image_to_video"),
        num_steps=1500,
        optimizer=OptimizerConfig(lr=8e-4, accumulate=2, warmup_steps=30, decay="cosine", final_lr_fraction=0.02),
    )
    return RecipeConfig(name="tiny-i2v", init="tiny-t2v", stages=(align, mapping, video_low, video_high))


def _given_an_image(task: TaskConfig, **changes: Any) -> VideoDiffusionTaskConfig:
    assert isinstance(task, VideoDiffusionTaskConfig)
    return replace(
        task,
        image_share=0.0,
        num_images=2_048,
        image_scale=1,
        text_dropout=0.05,
        both_dropout=0.05,
        image_dropout=0.05,
        motion_captions=0.7,
        **changes,
    )


def smoke() -> RecipeConfig:
    """Run every part of `tiny-t2v` at toy size in seconds, for tests and a first try. It learns nothing useful."""
    return RecipeConfig(name="smoke", stages=tuple(_toy_stage(stage) for stage in tiny_t2v().stages))


def _toy_stage(stage: StageConfig) -> StageConfig:
    assert isinstance(stage.task, VideoDiffusionTaskConfig)
    world = stage.task.world
    task = replace(
        stage.task,
        world=replace(world, height=world.height // 2, width=world.width // 2, num_frames=world.num_frames // 2),
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
