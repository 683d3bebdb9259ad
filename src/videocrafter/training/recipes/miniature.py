"""Recipes of the models that ship with the package; `runs/tiny.sh` reproduces those models from scratch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from videocrafter.data.sprite_world.world import SUBJECTS, SpriteWorldConfig
from videocrafter.training.config import OptimizerConfig, RecipeConfig, StageConfig
from videocrafter.training.miniature.autoencoder import AutoencoderTaskConfig
from videocrafter.training.miniature.degradation import Degradation
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.miniature.judge import JudgeTaskConfig
from videocrafter.training.miniature.networks import MiniatureNetwork, NoiseConfig
from videocrafter.training.miniature.stills import StillsTaskConfig
from videocrafter.training.miniature.towers import ContrastiveTaskConfig
from videocrafter.training.task import TaskConfig

_GATE_MOTIONS = ("left", "right", "up", "down", "growing", "shrinking", "spinning", "still")
_WORLD_128 = SpriteWorldConfig(height=128, width=128, num_frames=16, fps_range=(8.0, 24.0), diameter=0.56)
_NETWORK_128 = MiniatureNetwork(channel_mult=(1, 2, 2), attention_levels=(1,), temporal_length=16)


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
            network=replace(
                _NETWORK_128,
                fps_condition=False,
                frame_text_condition=False,
                place_condition=False,
                initial_temporal_heads=0,
            ),
            world=_WORLD_128,
            noise=NoiseConfig(snr_shift=4),
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
        network=_NETWORK_128,
        world=replace(_WORLD_128, height=64, width=64, num_frames=8, fps_range=(3.0, 12.0)),
        noise=NoiseConfig(snr_shift=4),
        num_clips=16_384,
        num_images=8_192,
        batch_size=32,
        image_batch_size=32,
        image_share=0.4,
        image_scale=2,
    )
    low = StageConfig(
        name="low",
        task=low_task,
        num_steps=4000,
        optimizer=OptimizerConfig(lr=1e-3, warmup_steps=100),
        ema_decay=0.998,
        checkpoint_seconds=180,
        validate_every=200,
        sample_every=1000,
    )
    high = replace(
        low,
        name="high",
        task=replace(low_task, world=_WORLD_128, batch_size=16, image_scale=1, image_share=0.3, num_gauged=48),
        num_steps=4000,
        optimizer=OptimizerConfig(lr=1e-3, warmup_steps=50, decay="cosine", final_lr_fraction=0.02),
        validate_every=400,
        sample_every=400,
    )
    return RecipeConfig(name="tiny-t2v-128", stages=(low, high))


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


def tiny_i2v() -> RecipeConfig:
    """Image to video in miniature, in the paper's two phases (§3.2), from a finished `tiny-t2v`."""
    video_task = VideoDiffusionTaskConfig(
        phase="image_to_video",
        timestep_power=1.5,
        noise=NoiseConfig(snr_shift=36),
        num_clips=32_768,
        num_images=2_048,
        batch_size=16,
        image_batch_size=32,
        image_share=0.0,
        text_dropout=0.05,
        both_dropout=0.05,
        image_dropout=0.05,
        motion_captions=0.7,
    )
    # Not in the paper: align the projector with the text tower first. This is cheap because the video network does
    # not run.
    align = StageConfig(
        name="align",
        task=replace(video_task, phase="image_alignment", num_images=65_536, image_batch_size=48, image_share=1.0),
        num_steps=1500,
        optimizer=OptimizerConfig(lr=2e-3, accumulate=2, warmup_steps=50, decay="cosine", final_lr_fraction=0.02),
        ema_decay=0.99,
        checkpoint_seconds=180,
        validate_every=0,
        sample_every=0,
    )
    mapping = StageConfig(
        name="mapping",
        task=replace(video_task, phase="image_mapping", alignment_weight=0.1),
        num_steps=300,
        optimizer=OptimizerConfig(lr=2e-3, accumulate=2, warmup_steps=20, decay="cosine", final_lr_fraction=0.02),
        ema_decay=0.99,
        checkpoint_seconds=180,
        validate_every=100,
        sample_every=300,
    )
    # Subjects are learned last, as in `tiny_t2v`: a longer phase improved the exam every time (docs/lab_log.md).
    video = replace(
        mapping,
        name="video",
        task=video_task,
        num_steps=1300,
        optimizer=replace(mapping.optimizer, lr=8e-4, warmup_steps=30),
        ema_decay=0.998,
        validate_every=325,
        sample_every=650,
    )
    return RecipeConfig(name="tiny-i2v", init="tiny-t2v", stages=(align, mapping, video))


def tiny_i2v_128() -> RecipeConfig:
    """Image to video at 128 pixels, from a finished `tiny-t2v-128`: the paper's two phases, low resolution first.

    `stages.*.task.image_tokens=global` trains the variant with one token for the whole image (paper, figure 5).
    """
    aligned = tiny_i2v().stages[0]
    low, high = tiny_t2v_128().stages
    align = replace(
        aligned,
        task=replace(
            _given_an_image(high.task, phase="image_alignment"),
            num_images=65_536,
            image_batch_size=48,
            image_share=1.0,
        ),
    )
    mapping = replace(
        low,
        name="mapping",
        task=_given_an_image(low.task, phase="image_mapping", alignment_weight=0.1),
        num_steps=300,
        optimizer=OptimizerConfig(lr=2e-3, warmup_steps=20, decay="cosine", final_lr_fraction=0.02),
        ema_decay=0.99,
        validate_every=100,
        sample_every=300,
    )
    video_low = replace(
        mapping,
        name="low",
        task=_given_an_image(low.task, phase="image_to_video"),
        num_steps=1000,
        optimizer=OptimizerConfig(lr=8e-4, warmup_steps=30),
        ema_decay=0.998,
        validate_every=250,
        sample_every=500,
    )
    video_high = replace(
        video_low,
        name="high",
        task=_given_an_image(high.task, phase="image_to_video"),
        num_steps=1500,
        optimizer=OptimizerConfig(lr=8e-4, warmup_steps=30, decay="cosine", final_lr_fraction=0.02),
    )
    return RecipeConfig(name="tiny-i2v-128", stages=(align, mapping, video_low, video_high))


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
    return RecipeConfig(name="tiny-judge", stages=(_judge_stage(JudgeTaskConfig()),))


def tiny_judge_128() -> RecipeConfig:
    """The judge of the 128-pixel world. It sees frames averaged down to 64 pixels and continues from `tiny-judge`."""
    task = JudgeTaskConfig(world=replace(_WORLD_128, position_jitter=0.25), batch_size=8, num_validation=32)
    stage = replace(
        _judge_stage(task),
        num_steps=120,
        optimizer=OptimizerConfig(lr=5e-4, betas=(0.9, 0.99), decay="cosine", warmup_steps=10),
        ema_decay=0.97,
    )
    return RecipeConfig(name="tiny-judge-128", init="judge", stages=(stage,))


def tiny_judge_shape() -> RecipeConfig:
    """A second judge for subjects alone: blur and random hues in training, so that it must know their shape."""
    task = JudgeTaskConfig(
        world=replace(_WORLD_128, position_jitter=0.25),
        degradation=Degradation(blurred_share=0.7, smallest_side=0.3, recoloured_share=1.0, brightness=0.4),
        stills=True,
        batch_size=48,
        num_validation=32,
    )
    stage = replace(
        _judge_stage(task),
        num_steps=600,
        optimizer=OptimizerConfig(lr=1e-3, betas=(0.9, 0.99), decay="cosine", warmup_steps=20),
        ema_decay=0.98,
    )
    longer = replace(stage, name="longer", num_steps=510)
    return RecipeConfig(name="tiny-judge-shape", init="judge", stages=(stage, longer))


def _judge_stage(task: JudgeTaskConfig) -> StageConfig:
    return StageConfig(
        name="judge",
        task=task,
        num_steps=1400,
        optimizer=OptimizerConfig(lr=2e-3, betas=(0.9, 0.99), decay="cosine", warmup_steps=100),
        ema_decay=0.995,
        checkpoint_seconds=180,
        validate_every=700,
    )
