"""Key rules on all keys of the five released checkpoints, at full size on the meta device."""

import gzip
import json
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.golden.official_numbers import DATA, VARIANTS, OfficialNumbers, schedule_buffers
from videocrafter.checkpoints.official.checkpoint_keys import rules_by_part, unused_keys, unused_shapes
from videocrafter.checkpoints.official.meta_networks import build_networks
from videocrafter.checkpoints.official.official_model import (
    OfficialModel,
    official_model_from_config,
    official_model_from_shapes,
)
from videocrafter.checkpoints.official.schedule_buffers import schedule_buffers as our_schedule_buffers

FULL_SIZE = json.loads(gzip.decompress((DATA / "official_keys.json.gz").read_bytes()))
SCALES = {"t2v_512_v1": None, "t2v_512_v1_early": 0.7, "t2v_1024_v1": 0.3, "t2v_512_v2": 0.7, "i2v_512_v1": 0.7}
FULL_SIZE_UNET = {
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_head_channels": 64,
    "context_dim": 1024,
    "temporal_length": 16,
}
FULL_SIZE_VAE = {"resolution": 512, "ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2}


def shapes_of(variant: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, (shape, _) in FULL_SIZE[variant].items()}


def detected(variant: str) -> OfficialModel:
    """Return the model read from keys, shapes and the signal scale alone."""
    shapes, scale = shapes_of(variant), SCALES[variant]
    buffer = None if scale is None else schedule_buffers(scale)["scale_arr"][: shapes["scale_arr"][0]]
    return official_model_from_shapes(shapes, buffer)


def test_the_list_holds_every_key_of_all_five():
    assert set(FULL_SIZE) == set(VARIANTS)
    assert sum(len(keys) for keys in FULL_SIZE.values()) == 10_103


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_key_is_mapped_once_or_dropped_for_a_reason(variant: str):
    model, shapes = detected(variant), shapes_of(variant)
    mapped = [rule.official for part in rules_by_part(model).values() for rule in part]
    reasons = unused_keys(model, shapes)
    assert len(mapped) == len(set(mapped))
    assert set(mapped).isdisjoint(reasons)
    assert {*mapped, *reasons} == set(shapes)
    assert all(reasons.values())
    assert {key: shapes[key] for key in reasons} == unused_shapes(model)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_tensor_of_ours_is_filled_and_goes_back_in_shape(variant: str):
    model, shapes = detected(variant), shapes_of(variant)
    checkpoint = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    back: dict[str, Tensor] = {}
    networks = build_networks(model)
    assert set(networks) == set(rules_by_part(model))
    for name, part_rules in rules_by_part(model).items():
        own = {key: tensor for rule in part_rules for key, tensor in rule.to_own(checkpoint).items()}
        assert sum(len(rule.own) for rule in part_rules) == len(own)
        networks[name].load_state_dict(own, strict=True, assign=True)
        state = networks[name].state_dict()
        back |= {key: tensor for rule in part_rules for key, tensor in rule.to_official(state).items()}
    reasons = unused_keys(model, shapes)
    assert {key: tuple(tensor.shape) for key, tensor in back.items()} == {
        key: shape for key, shape in shapes.items() if key not in reasons
    }


def test_the_five_are_told_apart():
    models = {variant: detected(variant) for variant in VARIANTS}
    assert all(models[one] != models[other] for one in VARIANTS for other in VARIANTS if one != other)
    traits = {
        variant: (
            model.unet["relative_position"],
            model.unet["fps_condition"],
            model.signal_scale,
            model.signal_scale_length,
            model.image_encoder is not None,
        )
        for variant, model in models.items()
    }
    assert traits == {
        "t2v_512_v1": (True, False, None, None, False),
        "t2v_512_v1_early": (False, True, 0.7, 1400, False),
        "t2v_1024_v1": (True, True, 0.3, 1000, False),
        "t2v_512_v2": (False, True, 0.7, 1000, False),
        "i2v_512_v1": (False, True, 0.7, 1400, True),
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_config_of_a_released_model_says_what_its_shapes_say(variant: str):
    config: dict[str, Any] = json.loads((DATA / f"{variant}.json").read_text(encoding="utf-8"))["official_config"]
    config["unet_config"]["params"] |= FULL_SIZE_UNET
    config["first_stage_config"]["params"]["ddconfig"] |= FULL_SIZE_VAE
    assert official_model_from_config(config) == detected(variant)
    assert official_model_from_config(config, shapes_of(variant)) == detected(variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_there_and_back_changes_no_bit(variant: str):
    numbers = OfficialNumbers(variant)
    official = numbers.state_dict()
    model = official_model_from_config(numbers.config, numbers.shapes)
    back: dict[str, Tensor] = {key: official[key] for key in unused_keys(model, official)}
    for part_rules in rules_by_part(model).values():
        own = {key: tensor for rule in part_rules for key, tensor in rule.to_own(official).items()}
        back |= {key: tensor for rule in part_rules for key, tensor in rule.to_official(own).items()}
    assert back.keys() == official.keys()
    assert all(torch.equal(back[key], official[key]) for key in official)
    assert {key: tuple(official[key].shape) for key in unused_keys(model, official)} == unused_shapes(model)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_noise_schedule_can_be_computed_again(variant: str):
    numbers = OfficialNumbers(variant)
    stored = {key: tensor for key, tensor in numbers.state_dict().items() if "." not in key}
    ours = our_schedule_buffers(official_model_from_config(numbers.config, numbers.shapes))
    assert ours.keys() == stored.keys()
    for key, tensor in stored.items():
        assert ours[key].shape == tensor.shape
        assert torch.allclose(ours[key], tensor, rtol=1e-6, atol=0), key
