"""Every key has a rule or a reason; tests/golden shows that the rules are correct."""

from dataclasses import replace

import pytest

from tests.official_checkpoints import official_shapes
from tests.unit.checkpoints.official.official_shapes import mini_config
from videocrafter.checkpoints.official.checkpoint_keys import PARTS, rules_by_part, unused_keys, unused_shapes
from videocrafter.checkpoints.official.official_model import OfficialModel, official_model_from_config


@pytest.fixture(scope="module")
def model() -> OfficialModel:
    return official_model_from_config(mini_config())


@pytest.fixture(scope="module")
def text_model(model: OfficialModel) -> OfficialModel:
    return replace(
        model, unet={**model.unet, "image_cross_attention": False}, image_encoder=None, image_projector=None
    )


def test_the_parts_are_those_of_the_model(model: OfficialModel, text_model: OfficialModel):
    assert tuple(rules_by_part(model)) == PARTS
    assert tuple(rules_by_part(text_model)) == PARTS[:3]


def test_every_key_has_one_rule_or_a_reason(model: OfficialModel):
    ruled = [rule.official for part in rules_by_part(model).values() for rule in part]
    reasons = unused_keys(model, official_shapes(model))
    assert len(ruled) == len(set(ruled))
    assert not set(ruled) & set(reasons)
    assert {*ruled, *reasons} == set(official_shapes(model))
    assert set(reasons) == set(unused_shapes(model))


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("scale_arr", "noise schedule"),
        ("posterior_mean_coef2", "noise schedule"),
        ("cond_stage_model.model.text_projection", "joint space"),
        ("cond_stage_model.model.attn_mask", "causal mask"),
        ("cond_stage_model.model.transformer.resblocks.1.ln_1.weight", "penultimate layer"),
        ("embedder.model.visual.proj", "joint space"),
        ("embedder.model.token_embedding.weight", "second copy"),
        ("embedder.model.transformer.resblocks.0.ln_1.weight", "second copy"),
    ],
)
def test_reasons(model: OfficialModel, key: str, reason: str):
    assert reason in unused_keys(model, [key])[key]


@pytest.mark.parametrize(
    "key",
    [
        "model.diffusion_model.out.2.bias",
        "model_ema.decay",
        "betas2",
        "cond_stage_model.model.transformer.resblocks.0.ln_1.weight",
        "cond_stage_model.model.transformer.resblocks.2.ln_1.weight",
        "cond_stage_model.model.text_projection.weight",
        "embedder.model.visual.head",
        "embedder.model.token_embedding.weight_orig",
    ],
)
def test_a_key_with_a_rule_and_an_unknown_one_have_no_reason(model: OfficialModel, key: str):
    assert unused_keys(model, [key]) == {}


def test_a_text_to_video_model_has_no_place_for_an_image_embedder(text_model: OfficialModel):
    assert unused_keys(text_model, ["embedder.model.visual.proj", "embedder.model.logit_scale"]) == {}
    assert not any(key.startswith("embedder.") for key in unused_shapes(text_model))


def test_a_tower_that_is_used_to_its_end_loses_no_block(model: OfficialModel):
    whole = replace(model, text_encoder={**model.text_encoder, "num_hidden_layers": 2})
    assert unused_keys(whole, ["cond_stage_model.model.transformer.resblocks.1.ln_1.weight"]) == {}
    assert not any("resblocks" in key for key in unused_shapes(whole))
