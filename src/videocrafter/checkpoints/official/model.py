"""What a checkpoint in the official format is: the arguments of each of our parts, and its signal scale.

It is known from the official config file, or detected from keys, shapes and the signal scale's buffer alone.
Detection is right for every released model. Three numbers are no part of any shape, the widths of the attention
heads of both towers and of the image projector; detection takes OpenCLIP's and the released projector's, and a
config can name others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from videocrafter.checkpoints.official.config_values import check_whole, number_of, section_of
from videocrafter.checkpoints.official.image_keys import VIT_H_14_IMAGE, image_config, image_sizes_from_shapes
from videocrafter.checkpoints.official.key_shapes import Shapes, has_module
from videocrafter.checkpoints.official.projector_keys import (
    PROJECTOR_PREFIX,
    RELEASED_PROJECTOR,
    projector_config_from_shapes,
)
from videocrafter.checkpoints.official.text_keys import VIT_H_14_TEXT, text_config, text_sizes_from_shapes
from videocrafter.checkpoints.official.unet_config import unet_config_from_official
from videocrafter.checkpoints.official.unet_shapes import unet_params_from_shapes
from videocrafter.checkpoints.official.vae_keys import vae_config_from_official, vae_config_from_shapes
from videocrafter.diffusion.schedule import PAPER_BETA_END, PAPER_BETA_START, SIGNAL_SCALE_RAMP, signal_scale

SIGNAL_SCALE_KEY = "scale_arr"
"""The buffer of a signal-scaled checkpoint."""
NUM_TRAIN_TIMESTEPS = 1000

# The buffer of the first releases is longer than the schedule by the length of the ramp; the rest is never read.
_BUFFER_LENGTHS = (NUM_TRAIN_TIMESTEPS, NUM_TRAIN_TIMESTEPS + SIGNAL_SCALE_RAMP)
# What half precision leaves of numbers up to 1.
_BUFFER_TOLERANCE = 5e-3

# Options of the official model that must have this value, and what it takes when the config does not say.
_FIXED: Mapping[str, tuple[Any, Any]] = MappingProxyType(
    {
        "linear_start": (PAPER_BETA_START, 1e-4),
        "linear_end": (PAPER_BETA_END, 2e-2),
        "beta_schedule": ("linear", "linear"),
        "timesteps": (NUM_TRAIN_TIMESTEPS, NUM_TRAIN_TIMESTEPS),
        "parameterization": ("eps", "eps"),
        "rescale_betas_zero_snr": (False, False),
        "conditioning_key": ("crossattn", "crossattn"),
        "scale_by_std": (False, False),
        "scale_a": (1, 1),
        "mid_step": (SIGNAL_SCALE_RAMP, SIGNAL_SCALE_RAMP),
    }
)
_DEFAULT_SCALE = 0.3
_LAYERS = ("penultimate", "last")


@dataclass(frozen=True, kw_only=True)
class OfficialModel:
    """A model in the official format, as the arguments of our parts.

    Attributes:
        unet: of `VideoUNet`.
        text_encoder: of transformers' `CLIPTextConfig`.
        vae: of diffusers' `AutoencoderKL`.
        image_encoder: of transformers' `CLIPVisionConfig`; None for text to video.
        image_projector: of `ImageProjector`; None for text to video.
        text_blocks: blocks of the official text tower, of which ours may have one fewer.
        signal_scale: b of a signal-scaled model; None for one without the buffer `scale_arr`.
        signal_scale_length: entries of that buffer.
    """

    unet: dict[str, Any]
    text_encoder: dict[str, Any]
    vae: dict[str, Any]
    image_encoder: dict[str, Any] | None = None
    image_projector: dict[str, Any] | None = None
    text_blocks: int
    signal_scale: float | None = None
    signal_scale_length: int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError unless the parts fit together."""
        has_image_branch = bool(self.unet["image_cross_attention"])
        if not has_image_branch == (self.image_encoder is not None) == (self.image_projector is not None):
            raise ValueError(
                "image attention in the denoiser, an image encoder and an image projector belong together, but only"
                " some of them are there"
            )
        context = ("the denoiser's context", self.unet["context_dim"])
        pairs = [(context, ("the text encoder", self.text_encoder["hidden_size"]))]
        pairs += [(("the denoiser's input", self.unet["in_channels"]), ("a latent", self.vae["latent_channels"]))]
        if self.image_encoder is not None and self.image_projector is not None:
            pairs += [(context, ("the image projector's output", self.image_projector["output_dim"]))]
            tower = ("the image encoder", self.image_encoder["hidden_size"])
            pairs += [(tower, ("the image projector's input", self.image_projector["embedding_dim"]))]
        for (one, width), (other, other_width) in pairs:
            if width != other_width:
                raise ValueError(f"{one} is {width} wide, but {other} {other_width}; they must be equal")
        if self.signal_scale is not None and not 0 < self.signal_scale <= 1:
            raise ValueError(f"the signal scale must lie above 0 and at most 1, but is {self.signal_scale:g}")


def official_model_from_shapes(shapes: Shapes, scale_arr: Tensor | None = None) -> OfficialModel:
    """Detect the model that a checkpoint holds.

    Args:
        shapes: every key of the state dict, without wrappers, with its shape.
        scale_arr: the values of `SIGNAL_SCALE_KEY`; None only if the checkpoint has no such key.

    Raises:
        ValueError: a tensor that tells a size is missing, a part is one that is not supported, or the signal
            scale is not one of this format.
    """
    scale, length = _read_signal_scale(shapes, scale_arr)
    text_sizes = text_sizes_from_shapes(shapes)
    has_image_branch = has_module(shapes, "embedder.") or has_module(shapes, PROJECTOR_PREFIX)
    return OfficialModel(
        unet=unet_config_from_official(unet_params_from_shapes(shapes)),
        text_encoder=text_config(text_sizes, penultimate=True),
        vae=vae_config_from_shapes(shapes),
        image_encoder=image_config(image_sizes_from_shapes(shapes)) if has_image_branch else None,
        image_projector=projector_config_from_shapes(shapes) if has_image_branch else None,
        text_blocks=text_sizes["layers"],
        signal_scale=scale,
        signal_scale_length=length,
    )


def official_model_from_config(config: Mapping[str, Any], shapes: Shapes | None = None) -> OfficialModel:
    """Read the `model` tree of an official config file.

    Args:
        config: the tree (`target` and `params`), or its `params` alone. Two additions to the official format
            describe models of other sizes: `cond_stage_config.params.arch` may be a mapping in the format of
            OpenCLIP's model configs (`text_cfg`, `vision_cfg`, `embed_dim`) instead of a name, and
            `image_proj_stage_config.params` may name arguments of `ImageProjector`.
        shapes: those of the checkpoint, from which the sizes of the towers and the projector are read, which
            the official format does not hold; None for those of the released models.

    Raises:
        ValueError: an option is missing, unknown, or has a value that is not supported.
    """
    params = section_of(config, "params", "model.") if "params" in config else config
    unet_params = _params(params, "unet_config", "UNetModel")
    vae_params = _params(params, "first_stage_config", "AutoencoderKL")
    text_params = _params(params, "cond_stage_config", "FrozenOpenCLIPEmbedder")
    _check_fixed(params)
    arch = _architecture(text_params.get("arch", "ViT-H-14"), sizes_are_known=shapes is not None)
    layer = text_params.get("layer", "last")
    if layer not in _LAYERS:
        raise ValueError(f"cond_stage_config.params.layer is {layer!r}; supported are {' and '.join(_LAYERS)}")
    text_sizes = {
        **(VIT_H_14_TEXT if shapes is None else text_sizes_from_shapes(shapes)),
        **arch["text_cfg"],
    }
    unet = unet_config_from_official(unet_params)
    image_encoder, image_projector = _image_branch(params, arch, unet, shapes)
    scale = number_of(params, "scale_b", _DEFAULT_SCALE) if params.get("use_scale", False) else None
    return OfficialModel(
        unet=unet,
        text_encoder=text_config(text_sizes, penultimate=layer == "penultimate"),
        vae=vae_config_from_official(vae_params, number_of(params, "scale_factor", 1.0)),
        image_encoder=image_encoder,
        image_projector=image_projector,
        text_blocks=text_sizes["layers"],
        signal_scale=scale,
        signal_scale_length=None if scale is None else _BUFFER_LENGTHS[not params.get("fix_scale_bug", False)],
    )


def _read_signal_scale(shapes: Shapes, scale_arr: Tensor | None) -> tuple[float | None, int | None]:
    """The signal scale and the length of the buffer that holds it, both None without a buffer."""
    if scale_arr is None:
        if SIGNAL_SCALE_KEY in shapes:
            raise ValueError(f"the checkpoint has {SIGNAL_SCALE_KEY}; its values are needed to detect the model")
        return None, None
    if scale_arr.ndim != 1 or len(scale_arr) not in _BUFFER_LENGTHS:
        raise ValueError(
            f"{SIGNAL_SCALE_KEY} has shape {tuple(scale_arr.shape)}; expected {_BUFFER_LENGTHS[0]} or"
            f" {_BUFFER_LENGTHS[1]} entries"
        )
    length, last = len(scale_arr), _shortest_decimal(scale_arr[-1])
    if not 0 < last <= 1 or not torch.allclose(
        scale_arr.double(), signal_scale(last, length), rtol=0, atol=_BUFFER_TOLERANCE
    ):
        raise ValueError(
            f"{SIGNAL_SCALE_KEY} goes from {float(scale_arr[0]):.4g} to {float(scale_arr[-1]):.4g}, but not as in"
            f" this format: linearly from 1 to a value above 0 in {SIGNAL_SCALE_RAMP} steps, then constant"
        )
    return last, length


def _shortest_decimal(value: Tensor) -> float:
    """The shortest decimal number that this precision rounds to the value: 0.7, not 0.699999988."""
    exact = float(value)
    candidates = (round(exact, digits) for digits in range(1, 9))
    return next((one for one in candidates if torch.tensor(one, dtype=value.dtype) == value), exact)


def _image_branch(
    params: Mapping[str, Any], arch: Mapping[str, Mapping[str, Any]], unet: Mapping[str, Any], shapes: Shapes | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Arguments of the image tower and the projector; both None for text to video."""
    if "cond_img_config" not in params:
        return None, None
    _params(params, "cond_img_config", "FrozenOpenCLIPImageEmbedderV2")
    if not params.get("finegrained", False):
        raise ValueError(
            "finegrained is off; only the projector of the released model, which it switches on, is known"
        )
    known: Mapping[str, Any] = VIT_H_14_IMAGE if shapes is None else image_sizes_from_shapes(shapes)
    sizes = {**known, **arch["vision_cfg"]}
    projector = section_of(params, "image_proj_stage_config", "")
    given = section_of(projector, "params", "image_proj_stage_config.")
    unknown = sorted(set(given) - set(RELEASED_PROJECTOR))
    if unknown:
        raise ValueError(
            f"unknown options {', '.join(unknown)} in image_proj_stage_config.params; known are"
            f" {', '.join(RELEASED_PROJECTOR)}"
        )
    check_whole(given, tuple(RELEASED_PROJECTOR), "image_proj_stage_config.params")
    if shapes is None:
        base = {**RELEASED_PROJECTOR, "embedding_dim": sizes["width"], "output_dim": unet["context_dim"]}
    else:
        base = projector_config_from_shapes(shapes, given.get("dim_head"))
    return image_config(sizes), {**base, **given}


def _architecture(arch: Any, *, sizes_are_known: bool) -> dict[str, dict[str, Any]]:
    """Sizes of both towers as far as a config names them."""
    if isinstance(arch, str):
        if arch != "ViT-H-14" and not sizes_are_known:
            raise ValueError(f"arch is {arch!r}; known is ViT-H-14, or give a mapping with text_cfg and vision_cfg")
        return {"text_cfg": {}, "vision_cfg": {}}
    if not isinstance(arch, Mapping):
        raise ValueError(f"arch is {arch!r}; expected a name or a mapping with text_cfg and vision_cfg")
    shared = {"embed_dim": arch["embed_dim"]} if "embed_dim" in arch else {}
    towers = {"text_cfg": {*VIT_H_14_TEXT, "heads"}, "vision_cfg": {*VIT_H_14_IMAGE, "head_width"}}
    given = {name: section_of(arch, name, "arch.") for name in towers}
    for name, known in towers.items():
        unknown = sorted(set(given[name]) - known)
        if unknown:
            raise ValueError(
                f"unknown sizes {', '.join(unknown)} in arch.{name}; known are {', '.join(sorted(known))}"
            )
        check_whole({**shared, **given[name]}, tuple(known - {"mlp_ratio"}), f"arch.{name}")
        number_of(given[name], "mlp_ratio", 4.0, f"arch.{name}.")
    return {name: {**shared, **given[name]} for name in towers}


def _params(params: Mapping[str, Any], name: str, class_name: str) -> Mapping[str, Any]:
    """The `params` of one part, whose class must be the one that is known."""
    section = section_of(params, name, "")
    if not section:
        raise ValueError(f"the config lacks {name}; expected the model tree of an official config")
    target = str(section.get("target", class_name)).rpartition(".")[2]
    if target != class_name:
        raise ValueError(f"{name}.target is {section['target']!r}; supported is {class_name}")
    return section_of(section, "params", f"{name}.")


def _check_fixed(params: Mapping[str, Any]) -> None:
    for name, (supported, default) in _FIXED.items():
        value = params.get(name, default)
        if value != supported:
            raise ValueError(f"{name} is {value!r}; only {supported!r} is supported, as in every released model")
