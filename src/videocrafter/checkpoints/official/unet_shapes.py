"""Read the options of an official denoiser from the shapes of its tensors."""

from __future__ import annotations

from typing import Any

from videocrafter.checkpoints.official.key_shapes import Shapes, has_module, num_modules, shape_at
from videocrafter.checkpoints.official.unet_config import HEADS_AFTER_INPUT
from videocrafter.checkpoints.official.unet_keys import OFFICIAL_PREFIX

_HEAD_WIDTH = 64
# Number of frames of every released model; only tables of relative positions determine another number.
_TEMPORAL_LENGTH = 16

_DOWN = f"{OFFICIAL_PREFIX}input_blocks."
_MIDDLE = f"{OFFICIAL_PREFIX}middle_block."
_FIRST_RESIDUAL = f"{_MIDDLE}0."
_SPATIAL = f"{_MIDDLE}1."
_TEMPORAL_BLOCK = f"{_MIDDLE}2.transformer_blocks.0."
_POSITION_TABLE = f"{_TEMPORAL_BLOCK}attn1.relative_position_k.embeddings_table"


def unet_params_from_shapes(shapes: Shapes) -> dict[str, Any]:
    """Return the `unet_config.params` that describe the denoiser in a checkpoint of these shapes.

    The width of an attention head follows from a table of relative positions or from the temporal transformer after
    the input; without both, 64 is assumed. The presence of all other tensors is not checked here.

    Raises:
        ValueError: a tensor that determines an option is missing, or the network does not consist of regular levels.
    """
    model_channels, in_channels = shape_at(shapes, f"{_DOWN}0.0.weight", 4)[:2]
    first_blocks, num_res_blocks = _levels(shapes)
    widths = [shape_at(shapes, f"{_DOWN}{block}.0.out_layers.3.weight", 4)[0] for block in first_blocks]
    if any(width % model_channels for width in widths):
        raise ValueError(f"the denoiser's levels have widths {widths}; expected multiples of {model_channels}")
    has_transformers = [has_module(shapes, f"{_DOWN}{block}.1.transformer_blocks.") for block in first_blocks]
    context = shape_at(shapes, f"{_SPATIAL}transformer_blocks.0.attn2.to_k.weight", 2)
    embedded = shape_at(shapes, f"{_FIRST_RESIDUAL}emb_layers.1.weight", 2)[0]
    return {
        "in_channels": in_channels,
        "out_channels": shape_at(shapes, f"{OFFICIAL_PREFIX}out.2.weight", 4)[0],
        "model_channels": model_channels,
        "channel_mult": [width // model_channels for width in widths],
        "num_res_blocks": num_res_blocks,
        "attention_resolutions": [2**level for level, has in enumerate(has_transformers) if has],
        "num_head_channels": _head_width(shapes),
        "transformer_depth": num_modules(shapes, f"{_SPATIAL}transformer_blocks."),
        "temporal_transformer_depth": num_modules(shapes, f"{_MIDDLE}2.transformer_blocks."),
        "context_dim": context[1],
        "temporal_length": _temporal_length(shapes),
        "use_linear": len(shapes.get(f"{_SPATIAL}proj_in.weight", ())) == 2,
        "use_relative_position": _POSITION_TABLE in shapes,
        "temporal_conv": has_module(shapes, f"{_FIRST_RESIDUAL}temopral_conv."),
        "addition_attention": has_module(shapes, f"{OFFICIAL_PREFIX}init_attn."),
        "fps_cond": has_module(shapes, f"{OFFICIAL_PREFIX}fps_embedding."),
        "use_image_attention": f"{_SPATIAL}transformer_blocks.0.attn2.to_k_ip.weight" in shapes,
        "use_scale_shift_norm": embedded == 2 * widths[-1],
    }


def _levels(shapes: Shapes) -> tuple[range, int]:
    """Return the first block of every level and the number of residual blocks per level."""
    num_blocks = num_modules(shapes, _DOWN)
    steps_down = [block for block in range(1, num_blocks) if f"{_DOWN}{block}.0.op.weight" in shapes]
    num_res_blocks = (steps_down[0] if steps_down else num_blocks) - 1
    stride = num_res_blocks + 1
    # One block precedes all levels, and a downsampling block follows each level but the last.
    if num_res_blocks < 1 or steps_down != list(range(stride, num_blocks, stride)):
        raise ValueError(
            f"the denoiser's {num_blocks} input blocks do not form levels of equal depth: its downsampling blocks are"
            f" {steps_down}"
        )
    return range(1, num_blocks, stride), num_res_blocks


def _head_width(shapes: Shapes) -> int:
    if _POSITION_TABLE in shapes:
        return shape_at(shapes, _POSITION_TABLE, 2)[1]
    after_input = f"{OFFICIAL_PREFIX}init_attn.0.proj_in.weight"
    if after_input in shapes:
        return shape_at(shapes, after_input, 3)[0] // HEADS_AFTER_INPUT
    return _HEAD_WIDTH


def _temporal_length(shapes: Shapes) -> int:
    if _POSITION_TABLE in shapes:
        return (shape_at(shapes, _POSITION_TABLE, 2)[0] - 1) // 2
    return _TEMPORAL_LENGTH
