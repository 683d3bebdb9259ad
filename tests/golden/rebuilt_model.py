"""Load an official checkpoint into our networks, with the rules of the conversion."""

from collections.abc import Mapping
from dataclasses import dataclass

from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from videocrafter.checkpoints.official.checkpoint_keys import rules_by_part
from videocrafter.checkpoints.official.official_model import OfficialModel
from videocrafter.models.image_projector import ImageProjector
from videocrafter.models.unet import VideoUNet


@dataclass(frozen=True, kw_only=True)
class RebuiltModel:
    """All networks of a model, with weights."""

    unet: VideoUNet
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    image_encoder: CLIPVisionModel | None
    image_projector: ImageProjector | None
    signal_scale: float | None


def empty_parts(model: OfficialModel) -> dict[str, nn.Module]:
    """Return every network with its initial weights, on the default device."""
    parts: dict[str, nn.Module] = {
        "unet": VideoUNet(**model.unet),
        "vae": AutoencoderKL(**model.vae),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**model.text_encoder)),
    }
    if model.image_encoder is not None:
        parts["image_encoder"] = CLIPVisionModel(CLIPVisionConfig(**model.image_encoder))
    if model.image_projector is not None:
        parts["image_projector"] = ImageProjector(**model.image_projector)
    return parts


def load_parts(model: OfficialModel, official: Mapping[str, Tensor]) -> dict[str, nn.Module]:
    """Return every network with the weights of an official state dict. Raises if a parameter has no weight."""
    parts = empty_parts(model)
    for name, part_rules in rules_by_part(model).items():
        own = {key: tensor for rule in part_rules for key, tensor in rule.to_own(official).items()}
        parts[name].load_state_dict(own, strict=True, assign=True)
        parts[name].eval().requires_grad_(False)
    return parts


def rebuild(model: OfficialModel, official: Mapping[str, Tensor]) -> RebuiltModel:
    """Return the model of an official state dict."""
    parts = {"image_encoder": None, "image_projector": None, **load_parts(model, official)}
    return RebuiltModel(signal_scale=model.signal_scale, **parts)
