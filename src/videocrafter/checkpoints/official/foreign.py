"""What a file of tensors seems to be when it is no VideoCrafter checkpoint, and what would work with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from videocrafter.checkpoints.official.key_shapes import Shapes

_DENOISER = "model.diffusion_model."
_FIRST_CONVOLUTION = f"{_DENOISER}input_blocks.0.0.weight"
# The middle has transformers at every size; without a temporal one a residual block stands in this place.
_TEMPORAL = f"{_DENOISER}middle_block.2.transformer_blocks."
_LORA_ENDING = re.compile(
    r"(lora[_.](up|down|[AB])|lora_linear_layer\.(up|down)|hada_w1_a|lokr_w1)(\.[\w-]+)?(\.weight)?$"
)


@dataclass(frozen=True)
class Kind:
    """A kind of file that is not ours.

    Attributes:
        name: what it is, with its article.
        advice: what to do with it.
        is_it: whether a state dict of these shapes is one.
    """

    name: str
    advice: str
    is_it: Callable[[Shapes], bool]


def is_videocrafter(shapes: Shapes) -> bool:
    """Whether the denoiser is a VideoCrafter1 network of some size: 2D convolutions, temporal transformers."""
    first = shapes.get(_FIRST_CONVOLUTION, ())
    return len(first) == 4 and first[1] == 4 and _any_starts(shapes, _TEMPORAL)


def foreign_kind(shapes: Shapes) -> Kind | None:
    """The kind of a state dict that is not ours; None if nothing known fits."""
    return next((kind for kind in _KINDS if kind.is_it(shapes)), None)


def describe_foreign(shapes: Shapes) -> str:
    """One phrase for an error message: "seems to be …; …"."""
    kind = foreign_kind(shapes)
    if kind is not None:
        return f"seems to be {kind.name}; {kind.advice}"
    names = ", ".join(repr(key) for key in sorted(shapes)[:3])
    return (
        f"is no VideoCrafter checkpoint: of its {len(shapes)} tensors ({names}, ...) none belongs to the denoiser"
        f" ({_DENOISER}*); give the model.ckpt of a VideoCrafter1 or VideoCrafter2 release"
    )


def _any_starts(shapes: Shapes, *prefixes: str) -> bool:
    return any(key.startswith(prefixes) for key in shapes)


def _all_start(shapes: Shapes, *prefixes: str) -> bool:
    return all(key.startswith(prefixes) for key in shapes)


def _any_holds(shapes: Shapes, part: str) -> bool:
    return any(part in key for key in shapes)


def _context_width(shapes: Shapes) -> int:
    """Width of the text tokens that an image or video denoiser in the `ldm` layout attends to; 0 if it is none."""
    ending = "transformer_blocks.0.attn2.to_k.weight"
    widths = [shape[-1] for key, shape in shapes.items() if key.startswith(_DENOISER) and key.endswith(ending)]
    return widths[0] if widths else 0


def _is_image_denoiser(shapes: Shapes) -> bool:
    return len(shapes.get(_FIRST_CONVOLUTION, ())) == 4 and not _any_starts(shapes, _TEMPORAL)


def _is_dynamicrafter(shapes: Shapes) -> bool:
    """Its denoiser sees a picture's latent beside the noisy one: eight channels, and tokens for every frame."""
    first = shapes.get(_FIRST_CONVOLUTION, ())
    return len(first) == 4 and first[1] == 8 and _any_starts(shapes, _TEMPORAL)


def _is_lora(shapes: Shapes) -> bool:
    return any(_LORA_ENDING.search(key) for key in shapes)


_SD_START = "to begin the training of a video model from it: videocrafter init --help"
_GIVE_VIDEOCRAFTER = "this package runs VideoCrafter1 and VideoCrafter2 checkpoints"

# The first that fits counts, so the particular stands before the general.
_KINDS = (
    Kind(
        "a LoRA",
        "it goes on top of a model: videocrafter generate --lora FILE, or pipeline.load_lora_weights(FILE)",
        _is_lora,
    ),
    Kind(
        "a DynamiCrafter checkpoint (8 input channels, image tokens for every frame)",
        f"it runs in DynamiCrafter's own code or ComfyUI; {_GIVE_VIDEOCRAFTER}",
        _is_dynamicrafter,
    ),
    Kind(
        "Stable Video Diffusion",
        f"it runs in diffusers' StableVideoDiffusionPipeline; {_GIVE_VIDEOCRAFTER}",
        lambda shapes: _any_holds(shapes, ".time_stack.") or _any_holds(shapes, ".temporal_transformer_blocks."),
    ),
    Kind(
        "an AnimateDiff motion module",
        f"it runs in diffusers' AnimateDiffPipeline; {_GIVE_VIDEOCRAFTER}",
        lambda shapes: _any_holds(shapes, "motion_modules."),
    ),
    Kind(
        "a ControlNet",
        f"it steers Stable Diffusion in diffusers' StableDiffusionControlNetPipeline; {_GIVE_VIDEOCRAFTER}",
        lambda shapes: _any_starts(shapes, "control_model.", "controlnet_cond_embedding."),
    ),
    Kind(
        "Stable Diffusion XL",
        f"it runs in diffusers' StableDiffusionXLPipeline; {_GIVE_VIDEOCRAFTER}",
        lambda shapes: _any_starts(shapes, "conditioner.embedders.") or _context_width(shapes) == 2048,
    ),
    Kind(
        "a video model with 3D convolutions (LVDM, or VideoCrafter before October 2023)",
        "its layout is another one; take a VideoCrafter1 or VideoCrafter2 checkpoint",
        lambda shapes: len(shapes.get(_FIRST_CONVOLUTION, ())) == 5,
    ),
    Kind(
        "Stable Diffusion 1 (an image model with a text width of 768)",
        f"it makes images: load it with diffusers' StableDiffusionPipeline.from_single_file; {_GIVE_VIDEOCRAFTER}",
        lambda shapes: _is_image_denoiser(shapes) and _context_width(shapes) == 768,
    ),
    Kind(
        "Stable Diffusion 2 (an image model with a text width of 1024)",
        f"it makes images: load it with diffusers' StableDiffusionPipeline.from_single_file, or, {_SD_START}",
        lambda shapes: _is_image_denoiser(shapes) and _context_width(shapes) == 1024,
    ),
    Kind(
        "an image model in the layout of Stable Diffusion",
        f"it has no temporal layers; {_GIVE_VIDEOCRAFTER}",
        _is_image_denoiser,
    ),
    Kind(
        "the denoiser of a converted VideoCrafter model",
        "it is part of a pipeline folder; give the folder that holds model_index.json",
        lambda shapes: _any_starts(shapes, "down_stages.") and _any_starts(shapes, "timestep_embedding."),
    ),
    Kind(
        "a denoiser in the layout of diffusers",
        "give the original single-file checkpoint (.ckpt), not the folder made from it",
        lambda shapes: _any_starts(shapes, "down_blocks.") and _any_starts(shapes, "time_embedding."),
    ),
    Kind(
        "a VAE in the layout of diffusers",
        "it is only one part of a model; put it into the vae/ folder of a converted model",
        lambda shapes: _any_starts(shapes, "encoder.down_blocks.", "decoder.up_blocks."),
    ),
    Kind(
        "a VAE alone",
        "it is only one part of a model; convert the checkpoint that it belongs to",
        lambda shapes: (
            _any_starts(shapes, "decoder.up.", "encoder.down.") or _all_start(shapes, "first_stage_model.")
        ),
    ),
    Kind(
        "a text or image tower alone",
        "it is only one part of a model; convert the checkpoint that it belongs to",
        lambda shapes: _any_starts(
            shapes, "text_model.", "vision_model.", "transformer.resblocks.", "visual.transformer.", "encoder.layers."
        ),
    ),
    Kind(
        "a denoiser without the prefix of its keys",
        f"expected keys that begin with {_DENOISER!r}; give the whole model.ckpt",
        lambda shapes: _any_starts(shapes, "input_blocks.", "diffusion_model.input_blocks."),
    ),
)
