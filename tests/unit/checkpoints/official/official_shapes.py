"""A miniature model in the official format: its config, and the keys and shapes of its checkpoint."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from videocrafter.checkpoints.official.key_rules import Rule


def mini_config() -> dict[str, Any]:
    """An image-to-video model whose sizes can be detected: towers and projector have heads of width 64."""
    clip = {"embed_dim": 24, "text_cfg": {"width": 64, "layers": 2, "vocab_size": 40}}
    clip["vision_cfg"] = {"width": 128, "layers": 1, "patch_size": 56}
    unet = {"in_channels": 4, "out_channels": 4, "model_channels": 32, "attention_resolutions": [2, 1]}
    unet |= {"num_res_blocks": 1, "channel_mult": [1, 2], "num_head_channels": 16, "transformer_depth": 1}
    unet |= {"context_dim": 64, "use_linear": True, "temporal_conv": True, "use_relative_position": False}
    unet |= {"temporal_length": 16, "addition_attention": True, "fps_cond": True, "use_image_attention": True}
    vae = {"double_z": True, "z_channels": 4, "resolution": 512, "in_channels": 3, "out_ch": 3, "ch": 32}
    vae |= {"ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}
    condition = "lvdm.modules.encoders.condition"
    return {
        "linear_start": 0.00085,
        "linear_end": 0.012,
        "timesteps": 1000,
        "conditioning_key": "crossattn",
        "scale_by_std": False,
        "scale_factor": 0.18215,
        "use_scale": True,
        "scale_b": 0.7,
        "unet_config": {"target": "lvdm.modules.networks.openaimodel3d.UNetModel", "params": unet},
        "first_stage_config": {
            "target": "lvdm.models.autoencoder.AutoencoderKL",
            "params": {"embed_dim": 4, "ddconfig": vae},
        },
        "cond_stage_config": {
            "target": f"{condition}.FrozenOpenCLIPEmbedder",
            "params": {"freeze": True, "layer": "penultimate", "arch": clip},
        },
        "finegrained": True,
        "cond_img_config": {"target": f"{condition}.FrozenOpenCLIPImageEmbedderV2", "params": {"freeze": True}},
        "image_proj_stage_config": {"params": {"dim": 32, "depth": 1, "heads": 2, "num_queries": 4}},
    }


def to_official(own: Mapping[str, Tensor], part_rules: Iterable[Rule]) -> dict[str, Tensor]:
    """Return a part's state dict under official keys; fail unless every tensor has exactly one rule and key."""
    part_rules = tuple(part_rules)
    assert sorted(name for rule in part_rules for name in rule.own) == sorted(own)
    official = {key: tensor for rule in part_rules for key, tensor in rule.to_official(own).items()}
    assert len(official) == len(part_rules)
    return official


def part_shapes(network: nn.Module, part_rules: Iterable[Rule]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a part by official key; fail unless every tensor has exactly one rule and key."""
    return {key: tuple(tensor.shape) for key, tensor in to_official(network.state_dict(), part_rules).items()}
