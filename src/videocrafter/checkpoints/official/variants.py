"""The official models by name, as the arguments of our parts: known without their files."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from videocrafter.checkpoints.official.image_keys import VIT_H_14_IMAGE, image_config
from videocrafter.checkpoints.official.model import OfficialModel
from videocrafter.checkpoints.official.projector_keys import RELEASED_PROJECTOR
from videocrafter.checkpoints.official.text_keys import VIT_H_14_TEXT, text_config
from videocrafter.checkpoints.official.unet_config import unet_config_from_official
from videocrafter.checkpoints.official.vae_keys import vae_config_from_official
from videocrafter.checkpoints.stable_diffusion.initialisation import STARTING_POINTS
from videocrafter.presets import PRESETS

# As the official configs name them.
_UNET: Mapping[str, Any] = MappingProxyType(
    {
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 320,
        "attention_resolutions": (4, 2, 1),
        "num_res_blocks": 2,
        "channel_mult": (1, 2, 4, 4),
        "num_head_channels": 64,
        "transformer_depth": 1,
        "context_dim": 1024,
        "use_linear": True,
        "temporal_length": 16,
        "addition_attention": True,
    }
)
_RELATIVE: Mapping[str, Any] = MappingProxyType({**_UNET, "use_relative_position": True})
_CONVOLUTION: Mapping[str, Any] = MappingProxyType(
    {**_UNET, "use_relative_position": False, "temporal_conv": True, "fps_cond": True}
)
_VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "t2v-512": _RELATIVE,
        "t2v-1024": {**_RELATIVE, "fps_cond": True},
        "t2v-512-early": _CONVOLUTION,
        "vc2-t2v-512": _CONVOLUTION,
        "i2v-512": {**_CONVOLUTION, "use_image_attention": True},
    }
)
_VAE: Mapping[str, Any] = MappingProxyType(
    {"double_z": True, "z_channels": 4, "resolution": 512, "in_channels": 3, "out_ch": 3, "ch": 128}
    | {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
)


def official_variant(name: str) -> OfficialModel | None:
    """The model of a preset, or of a network of `STARTING_POINTS` with Stable Diffusion 2.1's parts; else None."""
    if name in STARTING_POINTS:
        unet = {**unet_config_from_official(_CONVOLUTION), **STARTING_POINTS[name]}
    elif name in _VARIANTS:
        unet = unet_config_from_official(_VARIANTS[name])
    else:
        return None
    has_image_branch = bool(unet["image_cross_attention"])
    return OfficialModel(
        unet=unet,
        text_encoder=text_config(VIT_H_14_TEXT, penultimate=True),
        vae=vae_config_from_official({"embed_dim": 4, "ddconfig": _VAE}),
        image_encoder=image_config(VIT_H_14_IMAGE) if has_image_branch else None,
        image_projector=dict(RELEASED_PROJECTOR) if has_image_branch else None,
        text_blocks=VIT_H_14_TEXT["layers"],
        signal_scale=PRESETS[name].signal_scale,
    )
