"""The networks of a pipeline on torch's meta device: built from their configs, without weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from videocrafter.models.image_projector import ImageProjector
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.loading import LOADING_ERRORS
from videocrafter.pipelines.model_folder import read_json

META = torch.device("meta")
NETWORK_PARTS = ("unet", "vae", "text_encoder", "image_encoder", "image_projector")
"""Networks by their names in a pipeline folder."""


def build_network(part: str, config: Mapping[str, Any]) -> nn.Module:
    """Build one of `NETWORK_PARTS` on the meta device.

    Args:
        config: as the part's `config.json` holds it; for the image encoder also that of a whole CLIP.

    Raises:
        ValueError: the config does not describe such a network.
    """
    given = dict(config)
    try:
        with META:
            if part == "text_encoder":
                return CLIPTextModel(CLIPTextConfig.from_dict(given))
            if part == "image_encoder":
                return CLIPVisionModel(CLIPVisionConfig.from_dict(given.get("vision_config", given)))
            classes = {"unet": VideoUNet, "vae": AutoencoderKL, "image_projector": ImageProjector}
            network: nn.Module = classes[part].from_config(given)
            return network
    except LOADING_ERRORS as error:
        raise ValueError(f"the config of its {part} is damaged: {' '.join(str(error).split())[:200]}") from error


def network_in(part: str, folder: Path) -> nn.Module:
    """Build one of `NETWORK_PARTS` on the meta device from the `config.json` in the part's folder.

    Raises:
        ValueError: the config is missing or damaged.
    """
    try:
        return build_network(part, read_json(folder / "config.json"))
    except ValueError as error:
        raise ValueError(f"the {part} in {folder} cannot be read: {error}") from error
