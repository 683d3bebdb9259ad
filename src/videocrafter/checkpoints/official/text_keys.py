"""The text tower of an official checkpoint: its sizes, and its keys as transformers' CLIPTextModel has them.

The official model takes the output of the last block but one and applies the final norm to it. A tower with
one block fewer gives that as its last hidden state, so the last block is not part of ours. A checkpoint does
not tell the width of an attention head: it is 64 in OpenCLIP's models, unless a config says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from videocrafter.checkpoints.official.clip_block import block_config, block_rules, block_sizes, num_heads
from videocrafter.checkpoints.official.key_shapes import Shapes, shape_at
from videocrafter.checkpoints.official.rule import Rule, module_rules, tensor_rules, with_prefix

TEXT_PREFIX = "cond_stage_model.model."
"""What the text tower's keys start with in an official checkpoint."""

VIT_H_14_TEXT: Mapping[str, Any] = MappingProxyType(
    {"embed_dim": 1024, "context_length": 77, "vocab_size": 49408, "width": 1024, "layers": 24, "mlp_ratio": 4.0}
)
"""Sizes of the text tower of every released model, in the words of OpenCLIP's model configs."""

_HEAD_WIDTH = 64
# As (official, own).
_TENSORS = (
    ("token_embedding.weight", "embeddings.token_embedding.weight"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
)
_MODULES = (("ln_final", "final_layer_norm"),)


def text_sizes_from_shapes(shapes: Shapes) -> dict[str, Any]:
    """Sizes of the text tower of a checkpoint, named as in `VIT_H_14_TEXT`.

    Raises ValueError if a tensor that tells a size is missing.
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
        sizes: named as in `VIT_H_14_TEXT`; `heads`, the number of attention heads, may be added.
        penultimate: whether the official model leaves out the last block.

    Raises:
        ValueError: the heads do not fill the width, or no block is left.
    """
    config = block_config(sizes, sizes.get("heads") or num_heads(sizes["width"], _HEAD_WIDTH))
    num_blocks = sizes["layers"] - penultimate
    if num_blocks < 1:
        raise ValueError(f"a text tower of {sizes['layers']} blocks has no penultimate layer")
    vocab_size = sizes["vocab_size"]
    return {
        **config,
        "num_hidden_layers": num_blocks,
        "vocab_size": vocab_size,
        "max_position_embeddings": sizes["context_length"],
        # Start and end are the last two entries of CLIP's vocabulary; OpenCLIP fills the rest of a row with 0.
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
