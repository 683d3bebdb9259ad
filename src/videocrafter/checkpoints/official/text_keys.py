"""The text tower of an official checkpoint: sizes, config and key rules for transformers' CLIPTextModel.

The official model applies the final norm to the output of the penultimate block. Our tower omits the last block, so
this output is its last hidden state. Shapes do not determine the width of an attention head: it is 64, as in
OpenCLIP's models, unless a config overrides it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from videocrafter.checkpoints.official.clip_block import block_config, block_rules, block_sizes, num_heads
from videocrafter.checkpoints.official.key_rules import Rule, module_rules, tensor_rules, with_prefix
from videocrafter.checkpoints.official.key_shapes import Shapes, shape_at

TEXT_PREFIX = "cond_stage_model.model."
"""Prefix of the text tower's keys in an official checkpoint."""

VIT_H_14_TEXT: Mapping[str, Any] = MappingProxyType(
    {"embed_dim": 1024, "context_length": 77, "vocab_size": 49408, "width": 1024, "layers": 24, "mlp_ratio": 4.0}
)
"""Sizes of the text tower of every released model, named as in OpenCLIP's model configs."""

_HEAD_WIDTH = 64
# As (official, own).
_TENSORS = (
    ("token_embedding.weight", "embeddings.token_embedding.weight"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
)
_MODULES = (("ln_final", "final_layer_norm"),)


def text_sizes_from_shapes(shapes: Shapes) -> dict[str, Any]:
    """Return the sizes of a checkpoint's text tower, named as in `VIT_H_14_TEXT`.

    Raises ValueError if a tensor that determines a size is missing.
    """
    vocab_size, width = shape_at(shapes, f"{TEXT_PREFIX}token_embedding.weight", 2)
    return {
        "embed_dim": shape_at(shapes, f"{TEXT_PREFIX}text_projection", 2)[1],
        "context_length": shape_at(shapes, f"{TEXT_PREFIX}positional_embedding", 2)[0],
        "vocab_size": vocab_size,
        "width": width,
        **block_sizes(shapes, TEXT_PREFIX, width),
    }


def text_config(sizes: Mapping[str, Any], *, penultimate: bool) -> dict[str, Any]:
    """Return the arguments of `CLIPTextConfig`.

    Args:
        sizes: named as in `VIT_H_14_TEXT`; `heads`, the number of attention heads, is optional.
        penultimate: whether the official model skips the last block.

    Raises:
        ValueError: the number of heads does not divide the width, or no block remains.
    """
    config = block_config(sizes, sizes.get("heads") or num_heads(sizes["width"], _HEAD_WIDTH))
    num_blocks = sizes["layers"] - penultimate
    if num_blocks < 1:
        raise ValueError(f"a text tower with layers={sizes['layers']} has no penultimate layer; expected at least 2")
    vocab_size = sizes["vocab_size"]
    return {
        **config,
        "num_hidden_layers": num_blocks,
        "vocab_size": vocab_size,
        "max_position_embeddings": sizes["context_length"],
        # The last two entries of CLIP's vocabulary are the start and end tokens; OpenCLIP pads with 0.
        "bos_token_id": vocab_size - 2,
        "eos_token_id": vocab_size - 1,
        "pad_token_id": 0,
    }


def text_keys(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Return the rules for every parameter of a `CLIPTextModel`; `config` is what `text_config` returns."""
    rules = (
        *tensor_rules("", "", _TENSORS),
        *block_rules(config["num_hidden_layers"]),
        *module_rules("", "", _MODULES),
    )
    return with_prefix(TEXT_PREFIX, rules)
