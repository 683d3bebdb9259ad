"""The official models by name, as arguments of our networks, without reading their files."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from videocrafter.checkpoints.official.image_keys import VIT_H_14_IMAGE, image_config
from videocrafter.checkpoints.official.official_model import OfficialModel
from videocrafter.checkpoints.official.projector_keys import RELEASED_PROJECTOR
from videocrafter.checkpoints.official.text_keys import VIT_H_14_TEXT, text_config
from videocrafter.checkpoints.official.unet_config import unet_config_from_official
from videocrafter.checkpoints.official.vae_keys import vae_config_from_official
from videocrafter.presets import PRESETS

_VAE: Mapping[str, Any] = MappingProxyType(
    {"double_z": True, "z_channels": 4, "resolution": 512, "in_channels": 3, "out_ch": 3, "ch": 128}
    | {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
)
# Arguments of VideoUNet that differ from the official code in models that this package trains from Stable Diffusion.
_TRAINED_HERE: Mapping[str, Mapping[str, Any]] = MappingProxyType({"t2v-256": {"temporal_layers_on_images": False}})
# Arguments of VideoUNet that a checkpoint does not contain.
_NOT_IN_CHECKPOINT = frozenset({"dropout", "temporal_dropout", "temporal_layers_on_images"})


def official_variant(name: str) -> OfficialModel | None:
    """Return the model of an official preset, with the text encoder and VAE of all releases; None for other names."""
    preset = PRESETS.get(name)
    if preset is None or preset.unet is None:
        return None
    has_image_branch = preset.task == "i2v"
    return OfficialModel(
        unet={**unet_config_from_official(preset.unet), **_TRAINED_HERE.get(name, {})},
        text_encoder=text_config(VIT_H_14_TEXT, penultimate=True),
        vae=vae_config_from_official({"embed_dim": 4, "ddconfig": _VAE}),
        image_encoder=image_config(VIT_H_14_IMAGE) if has_image_branch else None,
        image_projector=dict(RELEASED_PROJECTOR) if has_image_branch else None,
        text_blocks=VIT_H_14_TEXT["layers"],
        signal_scale=preset.signal_scale,
        signal_scale_length=preset.signal_scale_length,
    )


def matching_preset(model: OfficialModel) -> str | None:
    """Return the name of the preset with a model's network and signal scale; None if there is none.

    Presets that differ only in the length of the signal scale's buffer are told apart by it.
    """
    same = [
        name
        for name, preset in PRESETS.items()
        if preset.unet is not None
        and _architecture(unet_config_from_official(preset.unet)) == _architecture(model.unet)
        and _is_same_scale(preset.signal_scale, model.signal_scale)
    ]
    if len(same) > 1:
        same = [name for name in same if PRESETS[name].signal_scale_length == model.signal_scale_length]
    return same[0] if same else None


def _architecture(unet: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in unet.items() if name not in _NOT_IN_CHECKPOINT}


def _is_same_scale(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) < 1e-3
