"""Autoencoders and CLIP encoders with random weights, and a video task of unit-test size."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from videocrafter.data.sprite_world.world import SpriteWorldConfig
from videocrafter.training.miniature.autoencoder import AutoencoderTask, AutoencoderTaskConfig
from videocrafter.training.miniature.diffusion import VideoDiffusionTask
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.miniature.networks import MiniatureNetwork
from videocrafter.training.miniature.towers import ContrastiveTask, ContrastiveTaskConfig
from videocrafter.training.registry import build_task

CPU = torch.device("cpu")
LATENT_CHANNELS = 4
WIDTH = 16

AUTOENCODER = AutoencoderTaskConfig(
    latent_channels=LATENT_CHANNELS,
    block_out_channels=(8, 8),
    norm_groups=4,
    sizes=(16,),
    batch_size=4,
    num_validation=8,
)
TOWERS = ContrastiveTaskConfig(
    width=WIDTH,
    text_layers=1,
    image_layers=1,
    heads=2,
    size=16,
    num_frames=2,
    num_groups=3,
    group_size=3,
)
NETWORK = MiniatureNetwork(
    in_channels=LATENT_CHANNELS,
    out_channels=LATENT_CHANNELS,
    model_channels=16,
    channel_mult=(1, 2),
    attention_levels=(0, 1),
    head_dim=8,
    context_dim=WIDTH,
    norm_groups=4,
    temporal_length=4,
    initial_temporal_heads=1,
)
WORLD = SpriteWorldConfig(height=16, width=16, num_frames=4)


def autoencoder_task(config: AutoencoderTaskConfig = AUTOENCODER, seed: int = 0, **changes: Any) -> AutoencoderTask:
    """Build a task with random weights that depend on the seed alone."""
    return build(replace(config, **changes), None, seed)


def towers_task(config: ContrastiveTaskConfig = TOWERS, seed: int = 0, **changes: Any) -> ContrastiveTask:
    """Build a task with random weights that depend on the seed alone."""
    return build(replace(config, **changes), None, seed)


def save_parts(
    folder: Path, autoencoder: AutoencoderTaskConfig = AUTOENCODER, towers: ContrastiveTaskConfig = TOWERS
) -> Path:
    """Write `vae/`, `tokenizer/`, `text_encoder/` and `image_encoder/` with random weights; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    autoencoder_task(autoencoder).save_pipeline(folder)
    towers_task(towers).save_pipeline(folder)
    return folder


def video_config(parts: Path, **changes: Any) -> VideoDiffusionTaskConfig:
    """Config of a video task on clips of four frames of 16 x 16, with the networks of `save_parts`."""
    small: dict[str, Any] = {
        "network": NETWORK,
        "world": WORLD,
        "autoencoder": str(parts),
        "towers": str(parts),
        "num_clips": 16,
        "num_images": 8,
        "batch_size": 4,
        "image_batch_size": 4,
        "block_size": 2,
        "num_gauged": 4,
        "num_samples": 2,
        "sampling_steps": 2,
    }
    return VideoDiffusionTaskConfig(**{**small, **changes})


def video_task(
    parts: Path, start: Path | None = None, seed: int = 0, stage_index: int = 0, **changes: Any
) -> VideoDiffusionTask:
    """Build the task of `video_config`."""
    return build(video_config(parts, **changes), start, seed, stage_index)


def build(config: Any, start: Path | None = None, seed: int = 0, stage_index: int = 0) -> Any:
    """Build a task like a run does, with weights that depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_task(config, start, seed, stage_index, CPU)


def fill_zeros(module: torch.nn.Module) -> None:
    """Randomise zero-initialised layers, which would hide the effect of a condition."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(std=0.1, generator=generator)
