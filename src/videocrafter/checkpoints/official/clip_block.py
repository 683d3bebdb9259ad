"""The transformer block of an OpenCLIP tower, shared by the text and the image tower."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from videocrafter.checkpoints.official.key_rules import Rule, module_rules
from videocrafter.checkpoints.official.key_shapes import Shapes, num_modules, shape_at

# Modules with a weight and a bias, as (official, own).
_MODULES = (
    ("ln_1", "layer_norm1"),
    ("attn.out_proj", "self_attn.out_proj"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def block_rules(num_blocks: int) -> Iterator[Rule]:
    """Yield the rules of a tower's first `num_blocks` blocks, below the tower's prefixes."""
    for index in range(num_blocks):
        official, own = f"transformer.resblocks.{index}.", f"encoder.layers.{index}."
        yield from module_rules(official, own, _MODULES)
        for kind in ("weight", "bias"):
            yield Rule(
                official=f"{official}attn.in_proj_{kind}",
                own=tuple(f"{own}self_attn.{name}.{kind}" for name in _PROJECTIONS),
            )


def block_shapes(index: int, width: int, mlp_width: int) -> dict[str, tuple[int, ...]]:
    """Return the key and shape of every tensor of one block, below the tower's prefix."""
    shapes: dict[str, tuple[int, ...]] = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (mlp_width, width),
        "mlp.c_fc.bias": (mlp_width,),
        "mlp.c_proj.weight": (width, mlp_width),
        "mlp.c_proj.bias": (width,),
    }
    norms = {f"{name}.{kind}": (width,) for name in ("ln_1", "ln_2") for kind in ("weight", "bias")}
    return {f"transformer.resblocks.{index}.{name}": shape for name, shape in {**norms, **shapes}.items()}


def block_sizes(shapes: Shapes, prefix: str, width: int) -> dict[str, Any]:
    """Return the number of blocks and their MLP ratio, named as in OpenCLIP's model configs.

    Raises ValueError if there is no block below the prefix.
    """
    blocks = f"{prefix}transformer.resblocks."
    mlp_width = shape_at(shapes, f"{blocks}0.mlp.c_fc.weight", 2)[0]
    return {"layers": num_modules(shapes, blocks), "mlp_ratio": mlp_width / width}


def num_heads(width: int, head_width: int) -> int:
    """Return the number of attention heads of a tower.

    Raises ValueError if the head width does not divide the tower's width.
    """
    if width % head_width:
        raise ValueError(
            f"a tower of width {width} cannot be split into attention heads of width {head_width}; set its heads in"
            " the config (cond_stage_config.params.arch as a mapping: text_cfg.heads, vision_cfg.head_width)"
        )
    return width // head_width


def block_config(sizes: Mapping[str, Any], num_heads: int) -> dict[str, Any]:
    """Return the entries that the configs of both towers share in transformers.

    Raises ValueError if the number of heads does not divide the width, or the MLP ratio is not positive.
    """
    width = sizes["width"]
    if width % num_heads:
        raise ValueError(f"a tower of width {width} cannot have {num_heads} attention heads; expected a divisor")
    if sizes["mlp_ratio"] <= 0:
        raise ValueError(f"a tower's mlp_ratio is {sizes['mlp_ratio']}; expected a number above 0")
    return {
        "hidden_size": width,
        "intermediate_size": round(width * sizes["mlp_ratio"]),
        "projection_dim": sizes["embed_dim"],
        "num_hidden_layers": sizes["layers"],
        "num_attention_heads": num_heads,
        # OpenCLIP's ViT-H uses the exact GELU; CLIP configs in transformers default to an approximation.
        "hidden_act": "gelu",
    }
