"""Identify checkpoints of other formats by their keys, and say what to do with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from videocrafter.checkpoints.official.key_shapes import Shapes

_DENOISER = "model.diffusion_model."
_FIRST_CONVOLUTION = f"{_DENOISER}input_blocks.0.0.weight"
# The middle block always has transformers; in an image model a residual block takes the place of the temporal one.
_TEMPORAL = f"{_DENOISER}middle_block.2.transformer_blocks."
_LORA_ENDING = re.compile(
    r"(lora[_.](up|down|[AB])|lora_linear_layer\.(up|down)|hada_w1_a|lokr_w1)(\.[\w-]+)?(\.weight)?$"
)


@dataclass(frozen=True)
class OtherFormat:
    """A checkpoint format that cannot be converted.

    Attributes:
        name: with its article.
        advice: what to do with such a file.
        matches: whether a state dict of these shapes has this format.
    """

    name: str
    advice: str
    matches: Callable[[Shapes], bool]


def is_videocrafter(shapes: Shapes) -> bool:
    """Return whether the denoiser is a VideoCrafter1 network of any size: 2D convolutions, temporal transformers."""
    first = shapes.get(_FIRST_CONVOLUTION, ())
    return len(first) == 4 and first[1] == 4 and _any_starts(shapes, _TEMPORAL)


def other_format(shapes: Shapes) -> OtherFormat | None:
    """Return the first other format that matches a state dict, or None."""
    return next((one for one in _FORMATS if one.matches(shapes)), None)


def describe_other_format(shapes: Shapes) -> str:
    """Return a phrase for an error message: "seems to be …; …"."""
    found = other_format(shapes)
    if found is not None:
        return f"seems to be {found.name}; {found.advice}"
    names = ", ".join(repr(key) for key in sorted(shapes)[:3])
    if _any_starts(shapes, _DENOISER):
        lacking = "temporal transformers" if _FIRST_CONVOLUTION in shapes else f"the weights {_FIRST_CONVOLUTION}"
        return (
            f"is not a complete VideoCrafter checkpoint: its denoiser ({_DENOISER}*) lacks {lacking}; pass the"
            " model.ckpt of a VideoCrafter1 or VideoCrafter2 release"
        )
    return (
        f"is not a VideoCrafter checkpoint: none of its {len(shapes)} tensors ({names}, ...) belongs to a denoiser"
        f" ({_DENOISER}*); pass the model.ckpt of a VideoCrafter1 or VideoCrafter2 release"
    )


def _any_starts(shapes: Shapes, *prefixes: str) -> bool:
    return any(key.startswith(prefixes) for key in shapes)


def _all_start(shapes: Shapes, *prefixes: str) -> bool:
    return all(key.startswith(prefixes) for key in shapes)


def _any_holds(shapes: Shapes, part: str) -> bool:
    return any(part in key for key in shapes)


def _context_width(shapes: Shapes) -> int:
    """Return the text width of a denoiser's cross-attention in the `ldm` layout; 0 without a denoiser."""
    ending = "transformer_blocks.0.attn2.to_k.weight"
    widths = [shape[-1] for key, shape in shapes.items() if key.startswith(_DENOISER) and key.endswith(ending)]
    return widths[0] if widths else 0


def _is_image_denoiser(shapes: Shapes) -> bool:
    return len(shapes.get(_FIRST_CONVOLUTION, ())) == 4 and not _any_starts(shapes, _TEMPORAL)


def _is_dynamicrafter(shapes: Shapes) -> bool:
    """Return whether the denoiser takes an image latent next to the noisy latent: eight input channels."""
    first = shapes.get(_FIRST_CONVOLUTION, ())
    return len(first) == 4 and first[1] == 8 and _any_starts(shapes, _TEMPORAL)


def _is_lora(shapes: Shapes) -> bool:
    return any(_LORA_ENDING.search(key) for key in shapes)


_SD_START = "to train a video model from it, see videocrafter init --help"
_SUPPORTED = "this package supports VideoCrafter1 and VideoCrafter2 checkpoints"

# The first match is used, so specific formats precede general ones.
_FORMATS = (
    OtherFormat(
        "a LoRA",
        "load it on top of a model: videocrafter generate --lora FILE, or pipeline.load_lora_weights(FILE)",
        _is_lora,
    ),
    OtherFormat(
        "a DynamiCrafter checkpoint (8 input channels, image tokens per frame)",
        f"use it with DynamiCrafter's own code or ComfyUI; {_SUPPORTED}",
        _is_dynamicrafter,
    ),
    OtherFormat(
        "Stable Video Diffusion",
        f"use it with diffusers' StableVideoDiffusionPipeline; {_SUPPORTED}",
        lambda shapes: _any_holds(shapes, ".time_stack.") or _any_holds(shapes, ".temporal_transformer_blocks."),
    ),
    OtherFormat(
        "an AnimateDiff motion module",
        f"use it with diffusers' AnimateDiffPipeline; {_SUPPORTED}",
        lambda shapes: _any_holds(shapes, "motion_modules."),
    ),
    OtherFormat(
        "a ControlNet",
        f"use it with diffusers' StableDiffusionControlNetPipeline; {_SUPPORTED}",
        lambda shapes: _any_starts(shapes, "control_model.", "controlnet_cond_embedding."),
    ),
    OtherFormat(
        "Stable Diffusion XL",
        f"use it with diffusers' StableDiffusionXLPipeline; {_SUPPORTED}",
        lambda shapes: _any_starts(shapes, "conditioner.embedders.") or _context_width(shapes) == 2048,
    ),
    OtherFormat(
        "a video model with 3D convolutions (LVDM, or VideoCrafter before October 2023)",
        "this format is not supported; use a VideoCrafter1 or VideoCrafter2 checkpoint",
        lambda shapes: len(shapes.get(_FIRST_CONVOLUTION, ())) == 5,
    ),
    OtherFormat(
        "Stable Diffusion 1 (an image model with a text width of 768)",
        f"load it with diffusers' StableDiffusionPipeline.from_single_file to make images; {_SUPPORTED}",
        lambda shapes: _is_image_denoiser(shapes) and _context_width(shapes) == 768,
    ),
    OtherFormat(
        "Stable Diffusion 2 (an image model with a text width of 1024)",
        f"load it with diffusers' StableDiffusionPipeline.from_single_file to make images; {_SD_START}",
        lambda shapes: _is_image_denoiser(shapes) and _context_width(shapes) == 1024,
    ),
    OtherFormat(
        "an image model in Stable Diffusion's format",
        f"it has no temporal layers; {_SUPPORTED}",
        _is_image_denoiser,
    ),
    OtherFormat(
        "the denoiser of a converted VideoCrafter model",
        "it is one part of a pipeline folder; pass the folder that holds model_index.json",
        lambda shapes: _any_starts(shapes, "down_stages.") and _any_starts(shapes, "timestep_embedding."),
    ),
    OtherFormat(
        "a denoiser in diffusers' format",
        "pass the original single-file checkpoint (.ckpt) instead",
        lambda shapes: _any_starts(shapes, "down_blocks.") and _any_starts(shapes, "time_embedding."),
    ),
    OtherFormat(
        "a VAE in diffusers' format",
        "it is only one part of a model; copy it into the vae/ folder of a converted model",
        lambda shapes: _any_starts(shapes, "encoder.down_blocks.", "decoder.up_blocks."),
    ),
    OtherFormat(
        "a VAE alone",
        "it is only one part of a model; convert the whole checkpoint",
        lambda shapes: (
            _any_starts(shapes, "decoder.up.", "encoder.down.") or _all_start(shapes, "first_stage_model.")
        ),
    ),
    OtherFormat(
        "a text or image tower alone",
        "it is only one part of a model; convert the whole checkpoint",
        lambda shapes: _any_starts(
            shapes, "text_model.", "vision_model.", "transformer.resblocks.", "visual.transformer.", "encoder.layers."
        ),
    ),
    OtherFormat(
        "a denoiser without its key prefix",
        f"expected keys that begin with {_DENOISER!r}; pass the whole model.ckpt",
        lambda shapes: _any_starts(shapes, "input_blocks.", "diffusion_model.input_blocks."),
    ),
)
