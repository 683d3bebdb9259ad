"""A model in the official format, as arguments of our networks and its signal scale.

It is read from an official config file, or from the keys, shapes and signal-scale buffer of a checkpoint. Shapes
determine everything about the released models except the widths of the attention heads of both CLIP towers and of the
image projector. OpenCLIP's widths and the released projector's are assumed unless a config overrides them.
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
"""Key of the signal-scale buffer."""
NUM_TRAIN_TIMESTEPS = 1000

# In the first releases the buffer is longer than the schedule by the length of the ramp; the excess is never read.
_BUFFER_LENGTHS = (NUM_TRAIN_TIMESTEPS, NUM_TRAIN_TIMESTEPS + SIGNAL_SCALE_RAMP)
# Rounding error of half precision for values up to 1.
_BUFFER_TOLERANCE = 5e-3

# Options of the official model: the only supported value, and the official default.
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
    """A model in the official format, as arguments of our networks.

    Attributes:
        unet: arguments of `VideoUNet`.
        text_encoder: arguments of transformers' `CLIPTextConfig`.
        vae: arguments of diffusers' `AutoencoderKL`.
        image_encoder: arguments of transformers' `CLIPVisionConfig`; None for text to video.
        image_projector: arguments of `ImageProjector`; None for text to video.
        text_blocks: number of blocks of the official text tower; ours may have one fewer.
        signal_scale: b of a signal-scaled model; None for a model without the buffer `scale_arr`.
        signal_scale_length: number of entries of that buffer.
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
        """Raise ValueError unless the networks fit together."""
        has_image_branch = bool(self.unet["image_cross_attention"])
        if not has_image_branch == (self.image_encoder is not None) == (self.image_projector is not None):
            raise ValueError(
                "image attention in the denoiser, an image encoder and an image projector are needed together, but"
                " only some of them are present"
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
                raise ValueError(f"{one} has width {width}, but {other} has width {other_width}; they must be equal")
        if self.signal_scale is not None and not 0 < self.signal_scale <= 1:
            raise ValueError(f"the signal scale is {self.signal_scale:g}; expected a value above 0 and at most 1")


def official_model_from_shapes(shapes: Shapes, scale_arr: Tensor | None = None) -> OfficialModel:
    """Read the model from a checkpoint's shapes.

    Args:
        shapes: the shape of every tensor by key, without wrapper prefixes.
        scale_arr: the values of `SIGNAL_SCALE_KEY`; None only if the checkpoint has no such key.

    Raises:
        ValueError: a tensor that determines a size is missing, a network is not supported, or the signal scale is not
            valid in this format.
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
    """Read the model from the `model` tree of an official config file.

    Args:
        config: the tree (`target` and `params`), or its `params` alone. Two extensions of the official format
            describe models of other sizes: `cond_stage_config.params.arch` may be a mapping in the format of
            OpenCLIP's model configs (`text_cfg`, `vision_cfg`, `embed_dim`) instead of a name, and
            `image_proj_stage_config.params` may set arguments of `ImageProjector`.
        shapes: shapes of the checkpoint, for the sizes of the towers and the projector, which official configs do
            not contain; None assumes the released sizes.

    Raises:
        ValueError: an option is missing, unknown, or has an unsupported value.
    """
    params = section_of(config, "params", "model.") if "params" in config else config
    unet_params = _params(params, "unet_config", "UNetModel")
    vae_params = _params(params, "first_stage_config", "AutoencoderKL")
    text_params = _params(params, "cond_stage_config", "FrozenOpenCLIPEmbedder")
    _check_fixed(params)
    arch = _architecture(text_params.get("arch", "ViT-H-14"), sizes_are_known=shapes is not None)
    layer = text_params.get("layer", "last")
    if layer not in _LAYERS:
        raise ValueError(f"cond_stage_config.params.layer is {layer!r}; expected {' or '.join(_LAYERS)}")
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
    """Return the signal scale and the length of its buffer; both None without a buffer."""
    if scale_arr is None:
        if SIGNAL_SCALE_KEY in shapes:
            raise ValueError(f"the checkpoint has {SIGNAL_SCALE_KEY}; its values are needed, pass them as scale_arr")
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
            f"{SIGNAL_SCALE_KEY} runs from {float(scale_arr[0]):.4g} to {float(scale_arr[-1]):.4g} and is not valid;"
            f" expected a linear ramp from 1 to a value above 0 over {SIGNAL_SCALE_RAMP} steps, then a constant"
        )
    return last, length


def _shortest_decimal(value: Tensor) -> float:
    """Return the shortest decimal that rounds to the value in its precision: 0.7, not 0.699999988."""
    exact = float(value)
    candidates = (round(exact, digits) for digits in range(1, 9))
    return next((one for one in candidates if torch.tensor(one, dtype=value.dtype) == value), exact)


def _image_branch(
    params: Mapping[str, Any], arch: Mapping[str, Mapping[str, Any]], unet: Mapping[str, Any], shapes: Shapes | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the arguments of the image tower and the projector; both None for text to video."""
    if "cond_img_config" not in params:
        return None, None
    _params(params, "cond_img_config", "FrozenOpenCLIPImageEmbedderV2")
    if not params.get("finegrained", False):
        raise ValueError(
            "finegrained is off; only the projector of the released model, which finegrained enables, is supported"
        )
    known: Mapping[str, Any] = VIT_H_14_IMAGE if shapes is None else image_sizes_from_shapes(shapes)
    sizes = {**known, **arch["vision_cfg"]}
    projector = section_of(params, "image_proj_stage_config", "")
    given = section_of(projector, "params", "image_proj_stage_config.")
    unknown = sorted(set(given) - set(RELEASED_PROJECTOR))
    if unknown:
        raise ValueError(
            f"unknown options {', '.join(unknown)} in image_proj_stage_config.params; expected some of"
            f" {', '.join(RELEASED_PROJECTOR)}"
        )
    check_whole(given, tuple(RELEASED_PROJECTOR), "image_proj_stage_config.params")
    if shapes is None:
        base = {**RELEASED_PROJECTOR, "embedding_dim": sizes["width"], "output_dim": unet["context_dim"]}
    else:
        base = projector_config_from_shapes(shapes, given.get("dim_head"))
    return image_config(sizes), {**base, **given}


def _architecture(arch: Any, *, sizes_are_known: bool) -> dict[str, dict[str, Any]]:
    """Return the sizes of both towers that a config sets."""
    if isinstance(arch, str):
        if arch != "ViT-H-14" and not sizes_are_known:
            raise ValueError(f"arch is {arch!r}; expected ViT-H-14 or a mapping with text_cfg and vision_cfg")
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
                f"unknown sizes {', '.join(unknown)} in arch.{name}; expected some of {', '.join(sorted(known))}"
            )
        check_whole({**shared, **given[name]}, tuple(known - {"mlp_ratio"}), f"arch.{name}")
        number_of(given[name], "mlp_ratio", 4.0, f"arch.{name}.")
    return {name: {**shared, **given[name]} for name in towers}


def _params(params: Mapping[str, Any], name: str, class_name: str) -> Mapping[str, Any]:
    """Return the `params` of one part after checking its class."""
    section = section_of(params, name, "")
    if not section:
        raise ValueError(f"the config lacks {name}; expected the model tree of an official config")
    target = str(section.get("target", class_name)).rpartition(".")[2]
    if target != class_name:
        raise ValueError(f"{name}.target is {section['target']!r}; expected {class_name}")
    return section_of(section, "params", f"{name}.")


def _check_fixed(params: Mapping[str, Any]) -> None:
    for name, (supported, default) in _FIXED.items():
        value = params.get(name, default)
        if value != supported:
            raise ValueError(f"{name} is {value!r}; only {supported!r}, as in every released model, is supported")
