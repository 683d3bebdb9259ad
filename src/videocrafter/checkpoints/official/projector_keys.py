"""The image projector of an official checkpoint: sizes and key rules. Its keys are the same as ours."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from videocrafter.checkpoints.official.key_rules import Rule, module_rules, tensor_rules, with_prefix
from videocrafter.checkpoints.official.key_shapes import Shapes, num_modules, shape_at

PROJECTOR_PREFIX = "image_proj_model."
"""Prefix of the projector's keys in an official checkpoint."""

RELEASED_PROJECTOR: Mapping[str, int] = MappingProxyType(
    {"dim": 1024, "depth": 4, "dim_head": 64, "heads": 12, "num_queries": 16, "ff_mult": 4}
    | {"embedding_dim": 1280, "output_dim": 1024}
)
"""Arguments of `ImageProjector` for the released model; its official config does not contain them."""

_ENDS = ("proj_in", "proj_out", "norm_out")
_NORMS = ("0.norm1", "0.norm2", "1.0")
_MATRICES = ("0.to_q.weight", "0.to_kv.weight", "0.to_out.weight", "1.1.weight", "1.3.weight")


def projector_config_from_shapes(shapes: Shapes, dim_head: int | None = None) -> dict[str, int]:
    """Return the arguments of `ImageProjector` for a checkpoint of these shapes.

    Args:
        shapes: shapes of the whole checkpoint.
        dim_head: width of an attention head, which shapes do not determine; None takes the released model's.

    Raises:
        ValueError: a tensor that determines a size is missing, or a width is not a multiple of its unit.
    """
    dim_head = RELEASED_PROJECTOR["dim_head"] if dim_head is None else dim_head
    _, num_queries, dim = shape_at(shapes, f"{PROJECTOR_PREFIX}latents", 3)
    layers = f"{PROJECTOR_PREFIX}layers."
    inner = shape_at(shapes, f"{layers}0.0.to_q.weight", 2)[0]
    hidden = shape_at(shapes, f"{layers}0.1.1.weight", 2)[0]
    if inner % dim_head or hidden % dim:
        raise ValueError(
            f"the image projector's attention has width {inner} and its MLP width {hidden}; expected multiples of"
            f" {dim_head} and {dim} (to change the head width, set image_proj_stage_config.params.dim_head in the"
            " config)"
        )
    return {
        "dim": dim,
        "depth": num_modules(shapes, layers),
        "dim_head": dim_head,
        "heads": inner // dim_head,
        "num_queries": num_queries,
        "ff_mult": hidden // dim,
        "embedding_dim": shape_at(shapes, f"{PROJECTOR_PREFIX}proj_in.weight", 2)[1],
        "output_dim": shape_at(shapes, f"{PROJECTOR_PREFIX}proj_out.weight", 2)[0],
    }


def projector_keys(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Return the rules for every parameter of an `ImageProjector`; `config` is its config or its arguments."""
    rules = [*tensor_rules("", "", _same("latents")), *module_rules("", "", _same(*_ENDS))]
    for index in range(config["depth"]):
        layer = f"layers.{index}."
        rules += module_rules(layer, layer, _same(*_NORMS))
        rules += tensor_rules(layer, layer, _same(*_MATRICES))
    return with_prefix(PROJECTOR_PREFIX, rules)


def _same(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, name) for name in names)
