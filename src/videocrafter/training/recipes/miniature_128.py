"""Recipes of the larger miniature: 128 pixels, 16 frames, sharper parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from videocrafter.data.sprite_world.world import SpriteWorldConfig
from videocrafter.training.config import OptimizerConfig, RecipeConfig, StageConfig
from videocrafter.training.miniature.autoencoder import AutoencoderTaskConfig
from videocrafter.training.miniature.degradation import Degradation
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.miniature.judge import JudgeTaskConfig
from videocrafter.training.miniature.networks import MiniatureNetwork, NoiseConfig
from videocrafter.training.miniature.stills import StillsTaskConfig
from videocrafter.training.recipes.miniature import judge_stage
from videocrafter.training.task import TaskConfig

WORLD_128 = SpriteWorldConfig(height=128, width=128, num_frames=16, fps_range=(8.0, 24.0), diameter=0.56)
NETWORK_128 = MiniatureNetwork(channel_mult=(1, 2, 2), attention_levels=(1,), temporal_length=16)
_AUTOENCODER = "tiny-t2v-128"
"""The model with the autoencoder of `tiny_vae_128`."""


def tiny_vae_128() -> RecipeConfig:
    """A sharper autoencoder for frames of 128 pixels: 8x downsampling, 16 latent channels.

    It adds a perceptual loss, crops and some noise on the latents. `adversarial_weight` would add a discriminator;
    the lab log says why there is none yet.
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
    return RecipeConfig(name="tiny-vae-128", stages=(reconstruct, refine))


def tiny_sd() -> RecipeConfig:
    """A miniature Stable Diffusion: images only, at the final resolution. Video models start from it."""
    images = StageConfig(
        name="images",
        task=StillsTaskConfig(
            network=replace(
                NETWORK_128,
                fps_condition=False,
                frame_text_condition=False,
                place_condition=False,
                initial_temporal_heads=0,
            ),
            world=WORLD_128,
            noise=NoiseConfig(snr_shift=4),
            autoencoder=_AUTOENCODER,
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


def tiny_t2v_128() -> RecipeConfig:
    """Text to video at 128 pixels, from the images of `tiny-sd`: images and videos jointly, low resolution first."""
    # Fewer frames at fewer frames per second: a clip lasts, and moves, as long and as far as one of 16 frames.
    low_task = VideoDiffusionTaskConfig(
        network=NETWORK_128,
        world=replace(WORLD_128, height=64, width=64, num_frames=8, fps_range=(3.0, 12.0)),
        noise=NoiseConfig(snr_shift=4),
        autoencoder=_AUTOENCODER,
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
    high = replace(
        low,
        name="high",
        task=replace(low_task, world=WORLD_128, batch_size=8, image_scale=1, image_share=0.3, num_gauged=48),
        num_steps=4000,
        optimizer=OptimizerConfig(lr=1e-3, accumulate=2, warmup_steps=50, decay="cosine", final_lr_fraction=0.02),
        validate_every=400,
        sample_every=400,
    )
    return RecipeConfig(name="tiny-t2v-128", stages=(low, high))


def tiny_i2v_128() -> RecipeConfig:
    """Image to video at 128 pixels, from a finished `tiny-t2v-128`: the paper's two phases, low resolution first.

    `stages.*.task.image_tokens=global` trains the variant with one token for the whole image (paper, figure 5).
    """
    low, high = tiny_t2v_128().stages
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
    return RecipeConfig(name="tiny-i2v-128", init="tiny-t2v-128", stages=(align, mapping, video_low, video_high))


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


def tiny_judge_128() -> RecipeConfig:
    """The judge of the 128-pixel world. It sees frames averaged down to 64 pixels and continues from `tiny-judge`."""
    task = JudgeTaskConfig(world=replace(WORLD_128, position_jitter=0.25), batch_size=8, num_validation=32)
    stage = replace(
        judge_stage(task),
        num_steps=120,
        optimizer=OptimizerConfig(lr=5e-4, betas=(0.9, 0.99), decay="cosine", warmup_steps=10),
        ema_decay=0.97,
    )
    return RecipeConfig(name="tiny-judge-128", init="judge", stages=(stage,))


def tiny_judge_shape() -> RecipeConfig:
    """A second judge for subjects alone: blur and random hues in training, so that it must know their shape."""
    task = JudgeTaskConfig(
        world=replace(WORLD_128, position_jitter=0.25),
        degradation=Degradation(blurred_share=0.7, smallest_side=0.3, recoloured_share=1.0, brightness=0.4),
        stills=True,
        batch_size=48,
        num_validation=32,
    )
    stage = replace(
        judge_stage(task),
        num_steps=600,
        optimizer=OptimizerConfig(lr=1e-3, betas=(0.9, 0.99), decay="cosine", warmup_steps=20),
        ema_decay=0.98,
    )
    longer = replace(stage, name="longer", num_steps=510)
    return RecipeConfig(name="tiny-judge-shape", init="judge", stages=(stage, longer))
