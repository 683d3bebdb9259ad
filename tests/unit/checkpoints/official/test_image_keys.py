from typing import Any

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from tests.unit.checkpoints.official.official_shapes import part_shapes
from videocrafter.checkpoints.official.image_keys import (
    IMAGE_PREFIX,
    VIT_H_14_IMAGE,
    image_config,
    image_keys,
    image_sizes_from_shapes,
)

SMALL = {"embed_dim": 24, "image_size": 40, "patch_size": 8, "width": 128, "layers": 2, "mlp_ratio": 2.0}


def shapes_of(sizes: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    config = image_config(sizes)
    with torch.device("meta"):
        network = CLIPVisionModel(CLIPVisionConfig(**config))
    shapes = part_shapes(network, image_keys(config))
    return {**shapes, f"{IMAGE_PREFIX}proj": (sizes["width"], sizes["embed_dim"])}


@pytest.mark.parametrize("sizes", [SMALL, dict(VIT_H_14_IMAGE), {**SMALL, "image_size": 8}], ids=str)
def test_every_parameter_has_one_rule_and_shapes_give_the_sizes_back(sizes: dict[str, Any]):
    assert image_sizes_from_shapes(shapes_of(sizes)) == sizes


@pytest.mark.parametrize(("width", "heads"), [(1280, 16), (1408, 16), (1664, 16), (1024, 16), (768, 12)])
def test_head_widths_of_known_towers(width: int, heads: int):
    assert image_config({**VIT_H_14_IMAGE, "width": width})["num_attention_heads"] == heads


def test_a_head_width_can_be_named_and_must_fill_the_width():
    assert image_config({**SMALL, "width": 48, "head_width": 16})["num_attention_heads"] == 3
    with pytest.raises(ValueError, match="width 48 cannot be split into attention heads of width 64"):
        image_config({**SMALL, "width": 48})


def test_positions_must_form_a_square():
    shapes = {**shapes_of(SMALL), f"{IMAGE_PREFIX}positional_embedding": (24, 128)}
    with pytest.raises(ValueError, match="24 positions; expected a square number plus the class token"):
        image_sizes_from_shapes(shapes)
