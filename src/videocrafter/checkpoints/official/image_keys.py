"""The image tower of an official checkpoint: sizes, config and key rules for transformers' CLIPVisionModel.

Shapes do not determine the width of an attention head. OpenCLIP's width for the tower's size is assumed unless a
config overrides it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from videocrafter.checkpoints.official.clip_block import block_config, block_rules, block_sizes, num_heads
from videocrafter.checkpoints.official.key_rules import Rule, module_rules, tensor_rules, with_prefix
from videocrafter.checkpoints.official.key_shapes import Shapes, shape_at

IMAGE_PREFIX = "embedder.model.visual."
"""Prefix of the image tower's keys in an official checkpoint."""

VIT_H_14_IMAGE: Mapping[str, Any] = MappingProxyType(
    {"embed_dim": 1024, "image_size": 224, "patch_size": 14, "width": 1280, "layers": 32, "mlp_ratio": 4.0}
)
"""Sizes of the released image tower, named as in OpenCLIP's model configs."""

# Head widths of OpenCLIP's larger towers (H, g, bigG) by tower width; smaller towers use 64.
_HEAD_WIDTHS: Mapping[int, int] = MappingProxyType({1280: 80, 1408: 88, 1664: 104})
_HEAD_WIDTH = 64
# As (official, own). The spelling "layrnorm" below is transformers'.
_TENSORS = (
    ("class_embedding", "embeddings.class_embedding"),
    ("conv1.weight", "embeddings.patch_embedding.weight"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
)
_MODULES = (("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm"))


def image_sizes_from_shapes(shapes: Shapes) -> dict[str, Any]:
    """Return the sizes of a checkpoint's image tower, named as in `VIT_H_14_IMAGE`.

    Raises ValueError if a tensor that determines a size is missing, or the positions do not form a square.
    """
    width, _, patch, _ = shape_at(shapes, f"{IMAGE_PREFIX}conv1.weight", 4)
    num_positions = shape_at(shapes, f"{IMAGE_PREFIX}positional_embedding", 2)[0]
    side = math.isqrt(num_positions - 1)
    if side**2 != num_positions - 1:
        raise ValueError(
            f"the image tower has {num_positions} positions; expected a square number plus the class token"
        )
    return {
        "embed_dim": shape_at(shapes, f"{IMAGE_PREFIX}proj", 2)[1],
        "image_size": side * patch,
        "patch_size": patch,
        "width": width,
        **block_sizes(shapes, IMAGE_PREFIX, width),
    }


def image_config(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `CLIPVisionConfig`.

    Args:
        sizes: named as in `VIT_H_14_IMAGE`; `head_width` is optional.

    Raises:
        ValueError: the width is not a multiple of the head width.
    """
    width = sizes["width"]
    head_width = sizes.get("head_width", _HEAD_WIDTHS.get(width, _HEAD_WIDTH))
    return {
        **block_config(sizes, num_heads(width, head_width)),
        "image_size": sizes["image_size"],
        "patch_size": sizes["patch_size"],
    }


def image_keys(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Return the rules for every parameter of a `CLIPVisionModel`; `config` is what `image_config` returns."""
    rules = (
        *tensor_rules("", "", _TENSORS),
        *block_rules(config["num_hidden_layers"]),
        *module_rules("", "", _MODULES),
    )
    return with_prefix(IMAGE_PREFIX, rules)
