"""The networks of a model in the official format, without weights: for their configs, names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from videocrafter.checkpoints.official.layout import PARTS
from videocrafter.checkpoints.official.model import OfficialModel
from videocrafter.models.image_projector import ImageProjector
from videocrafter.models.unet import VideoUNet

OFFICIAL_BLOCKS = "official_blocks"
"""In the text encoder's config: the blocks of the official tower, of which ours may have one fewer."""

_TRANSFORMERS_PARTS = ("text_encoder", "image_encoder")
# Whether transformers stores the name of the tower depends on its version; it reads both.
_TOWER_PREFIXES = ("text_model.", "vision_model.")


def build_networks(model: OfficialModel) -> dict[str, nn.Module]:
    """Every part of a model on the meta device, in the order of `PARTS`.

    Raises ValueError if the sizes contradict each other.
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


def weights_stem(part: str) -> str:
    """What the weight files of a part begin with."""
    return "model" if part in _TRANSFORMERS_PARTS else "diffusion_pytorch_model"


def write_config(folder: Path, network: nn.Module, dtype: torch.dtype) -> None:
    """Write the `config.json` of a part, as its library reads it; `dtype` is that of its weights."""
    if isinstance(network, CLIPTextModel | CLIPVisionModel):
        network.config.architectures = [type(network).__name__]
        network.config.dtype = dtype
        network.config.save_pretrained(folder)
    elif isinstance(network, VideoUNet | AutoencoderKL | ImageProjector):
        network.save_config(folder)


def check_fits(part: str, network: nn.Module, shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Check that tensors of these names and shapes fill a network exactly.

    Raises ValueError that names the first that does not and counts the rest; `where` says where they stand.
    """
    expected = {without_tower(name): tuple(value.shape) for name, value in network.state_dict().items()}
    got = {without_tower(name): shape for name, shape in shapes.items()}
    wrong = sorted(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name))
    if wrong:
        name, more = wrong[0], f" ({len(wrong)} such tensors in all)" if len(wrong) > 1 else ""
        found, needed = _shape(got.get(name)), _shape(expected.get(name))
        raise ValueError(
            f"its {part} does not fit: {name} is {found} in {where}, but {needed} in a network of these sizes{more}"
        )


def without_tower(name: str) -> str:
    """The name of a parameter of a CLIP tower without the tower's own name, which some versions put before it."""
    prefix = next((prefix for prefix in _TOWER_PREFIXES if name.startswith(prefix)), "")
    return name.removeprefix(prefix)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else f"of shape {shape}"
