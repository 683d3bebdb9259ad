"""Random checkpoints in the official format, of any size, for tests of conversion."""

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from videocrafter.checkpoints.official.checkpoint_keys import rules_by_part, unused_shapes
from videocrafter.checkpoints.official.meta_networks import build_networks
from videocrafter.checkpoints.official.official_model import OfficialModel, official_model_from_config
from videocrafter.checkpoints.official.schedule_buffers import schedule_buffers


def official_shapes(model: OfficialModel) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a checkpoint of this model, by key."""
    shapes = dict(unused_shapes(model))
    networks = build_networks(model)
    for part, part_rules in rules_by_part(model).items():
        own = networks[part].state_dict()
        for rule in part_rules:
            shapes |= {key: tuple(value.shape) for key, value in rule.to_official(own).items()}
    return shapes


def random_checkpoint(model: OfficialModel, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Return a state dict of this model with random weights and the correct noise schedule."""
    generator = torch.Generator().manual_seed(0)
    schedule = schedule_buffers(model)
    return {
        key: schedule[key] if key in schedule else torch.randn(shape, generator=generator).mul_(0.05).to(dtype)
        for key, shape in official_shapes(model).items()
    }


def write_config(path: Path, params: dict[str, Any]) -> Path:
    """Write an official yaml file with these `model.params`."""
    path.write_text(yaml.safe_dump({"model": {"target": "lvdm.models.ddpm3d.LatentDiffusion", "params": params}}))
    return path


def small_params(*, image: bool = False, scale: float | None = 0.7, **unet: Any) -> dict[str, Any]:
    """Return `model.params` of a minimal network whose sizes can all be read from its shapes."""
    towers = {
        "text_cfg": {"width": 64, "heads": 1, "layers": 2, "vocab_size": 600},
        "vision_cfg": {"width": 64, "head_width": 64, "layers": 1, "patch_size": 56},
    }
    options = {
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "attention_resolutions": [1],
        "num_res_blocks": 1,
        "channel_mult": [1],
        "num_head_channels": 16,
        "context_dim": 64,
        "use_linear": True,
        "temporal_conv": True,
        "use_relative_position": False,
        "temporal_length": 16,
        "addition_attention": True,
        "fps_cond": True,
        "use_image_attention": image,
        **unet,
    }
    autoencoder = {"z_channels": 4, "in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1}
    params: dict[str, Any] = {
        "linear_start": 0.00085,
        "linear_end": 0.012,
        "timesteps": 1000,
        "image_size": [8, 12],
        "scale_factor": 0.18215,
        "conditioning_key": "crossattn",
        "unet_config": {"target": "lvdm.UNetModel", "params": options},
        "first_stage_config": {"target": "lvdm.AutoencoderKL", "params": {"embed_dim": 4, "ddconfig": autoencoder}},
        "cond_stage_config": {
            "target": "lvdm.FrozenOpenCLIPEmbedder",
            "params": {"layer": "penultimate", "arch": {"embed_dim": 32, **towers}},
        },
    }
    if scale is not None:
        params |= {"use_scale": True, "scale_b": scale, "fix_scale_bug": True}
    if image:
        params |= {
            "finegrained": True,
            "cond_img_config": {"target": "lvdm.FrozenOpenCLIPImageEmbedderV2"},
            "image_proj_stage_config": {"params": {"dim": 64, "depth": 1, "dim_head": 64, "heads": 1}},
        }
    return params


def small_checkpoint(*, image: bool = False, scale: float | None = 0.7, **unet: Any) -> dict[str, Tensor]:
    """Return a random state dict of the model of `small_params`."""
    return random_checkpoint(official_model_from_config(small_params(image=image, scale=scale, **unet)))


def save_checkpoint(path: Path, tensors: dict[str, Tensor]) -> Path:
    """Save a state dict as the official releases do."""
    torch.save({"state_dict": tensors}, path)
    return path
