from typing import Any

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from tests.unit.checkpoints.official.official_shapes import part_shapes
from videocrafter.checkpoints.official.clip_block import block_shapes
from videocrafter.checkpoints.official.text_keys import (
    TEXT_PREFIX,
    VIT_H_14_TEXT,
    text_config,
    text_keys,
    text_sizes_from_shapes,
)

SMALL = {"embed_dim": 24, "context_length": 11, "vocab_size": 40, "width": 128, "layers": 3, "mlp_ratio": 2.5}


def shapes_of(sizes: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The complete official tower: our parameters, its last block, and the projection into the joint space."""
    config = text_config(sizes, penultimate=True)
    with torch.device("meta"):
        network = CLIPTextModel(CLIPTextConfig(**config))
    shapes = part_shapes(network, text_keys(config))
    last = block_shapes(sizes["layers"] - 1, config["hidden_size"], config["intermediate_size"])
    shapes |= {f"{TEXT_PREFIX}{name}": shape for name, shape in last.items()}
    return {**shapes, f"{TEXT_PREFIX}text_projection": (sizes["width"], sizes["embed_dim"])}


@pytest.mark.parametrize("sizes", [SMALL, dict(VIT_H_14_TEXT), {**SMALL, "layers": 2, "width": 64}], ids=str)
def test_every_parameter_has_one_rule_and_shapes_give_the_sizes_back(sizes: dict[str, Any]):
    assert text_sizes_from_shapes(shapes_of(sizes)) == sizes


def test_the_released_tower():
    config = text_config(VIT_H_14_TEXT, penultimate=True)
    assert (config["num_hidden_layers"], config["num_attention_heads"], config["intermediate_size"]) == (23, 16, 4096)
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (49406, 49407, 0)
    assert config["hidden_act"] == "gelu"


def test_the_last_block_is_left_out_only_where_the_official_model_does():
    last = "cond_stage_model.model.transformer.resblocks.2.ln_1.weight"
    for penultimate in (True, False):
        official = {rule.official for rule in text_keys(text_config(SMALL, penultimate=penultimate))}
        assert (last in official) is not penultimate


def test_query_key_and_value_are_one_official_matrix():
    rule = next(
        rule
        for rule in text_keys(text_config(SMALL, penultimate=True))
        if rule.official.endswith("resblocks.1.attn.in_proj_bias")
    )
    assert rule.own == tuple(f"encoder.layers.1.self_attn.{name}_proj.bias" for name in "qkv")


def test_heads_can_be_named_and_must_fill_the_width():
    assert text_config(SMALL, penultimate=True)["num_attention_heads"] == 2
    assert text_config({**SMALL, "heads": 4}, penultimate=True)["num_attention_heads"] == 4
    with pytest.raises(ValueError, match="width 128 cannot have 3 attention heads"):
        text_config({**SMALL, "heads": 3}, penultimate=True)
    with pytest.raises(ValueError, match=r"width 96 cannot be split .* of width 64; set its heads in the config"):
        text_config({**SMALL, "width": 96}, penultimate=True)


def test_one_block_has_no_penultimate_layer():
    with pytest.raises(ValueError, match="layers=1 has no penultimate layer"):
        text_config({**SMALL, "layers": 1}, penultimate=True)


@pytest.mark.parametrize(
    "key",
    ["token_embedding.weight", "positional_embedding", "text_projection", "transformer.resblocks.0.mlp.c_fc.weight"],
)
def test_a_tower_without_a_tensor_that_tells_its_size(key: str):
    shapes = shapes_of(SMALL)
    del shapes[f"{TEXT_PREFIX}{key}"]
    with pytest.raises(ValueError, match=f"lacks '{TEXT_PREFIX}{key}'"):
        text_sizes_from_shapes(shapes)
