"""Build the networks of an official model on the meta device, for their configs, parameter names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from videocrafter.checkpoints.official.checkpoint_keys import PARTS
from videocrafter.checkpoints.official.official_model import OfficialModel
from videocrafter.models.image_projector import ImageProjector
from videocrafter.models.unet import VideoUNet

OFFICIAL_BLOCKS = "official_blocks"
"""Entry of the text encoder's config: number of blocks of the official tower; ours may have one fewer."""

# Some versions of transformers write these prefixes; all versions read names with and without them.
_TOWER_PREFIXES = ("text_model.", "vision_model.")


def build_networks(model: OfficialModel) -> dict[str, nn.Module]:
    """Return every network of a model on the meta device, in the order of `PARTS`.

    Raises ValueError if sizes contradict each other.
    """
    with torch.device("meta"):
        networks: dict[str, nn.Module] = {
            "unet": VideoUNet(**model.unet),
            "vae": AutoencoderKL(**model.vae),
            "text_encoder": CLIPTextModel(
                CLIPTextConfig(**model.text_encoder, **{OFFICIAL_BLOCKS: model.text_blocks})
            ),
        }
        if model.image_encoder is not None and model.image_projector is not None:
            networks["image_encoder"] = CLIPVisionModel(CLIPVisionConfig(**model.image_encoder))
            networks["image_projector"] = ImageProjector(**model.image_projector)
    return {part: networks[part] for part in PARTS if part in networks}


def write_config(folder: Path, network: nn.Module, dtype: torch.dtype) -> None:
    """Write the `config.json` of a part in its library's format; `dtype` is the dtype of its weights."""
    if isinstance(network, CLIPTextModel | CLIPVisionModel):
        network.config.architectures = [type(network).__name__]
        network.config.dtype = dtype
        network.config.save_pretrained(folder)
    elif isinstance(network, VideoUNet | AutoencoderKL | ImageProjector):
        network.save_config(folder)


def check_fits(part: str, network: nn.Module, shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Check that the names and shapes are exactly those of a network's state dict.

    Raises ValueError that names the first mismatch and counts the rest; `where` names the source of the tensors.
    """
    expected = {without_tower(name): tuple(value.shape) for name, value in network.state_dict().items()}
    got = {without_tower(name): shape for name, shape in shapes.items()}
    wrong = sorted(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name))
    if wrong:
        name, more = wrong[0], f" ({len(wrong)} mismatches in total)" if len(wrong) > 1 else ""
        raise ValueError(
            f"its {part} does not match its config: {name} {_shape(got.get(name))} in {where}, but"
            f" {_shape(expected.get(name))} in a network of this config{more}"
        )


def without_tower(name: str) -> str:
    """Return the name of a CLIP tower's parameter without the prefix that some versions of transformers add."""
    prefix = next((prefix for prefix in _TOWER_PREFIXES if name.startswith(prefix)), "")
    return name.removeprefix(prefix)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "is missing" if shape is None else f"has shape {shape}"
