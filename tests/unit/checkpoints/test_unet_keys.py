import pytest
import torch
from torch import Tensor

from videocrafter.checkpoints.unet_keys import KeyPair, to_official_state, to_own_state, unet_keys
from videocrafter.models.unet import VideoUNet

BASE = {
    "model_channels": 8,
    "channel_mult": (1, 2),
    "num_res_blocks": 1,
    "attention_levels": (1,),
    "head_dim": 4,
    "context_dim": 6,
    "norm_groups": 4,
    "temporal_length": 3,
    "initial_temporal_heads": 2,
}


def with_options(options: dict[str, object]) -> VideoUNet:
    return VideoUNet(**{**BASE, **options})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"channel_mult": (1,), "attention_levels": ()},
        {"channel_mult": (2, 1, 1), "attention_levels": (0, 2)},
        {"num_res_blocks": 3, "transformer_depth": 2, "relative_position": True},
        {"temporal_convolution": True, "image_cross_attention": True, "fps_condition": False},
        {"initial_temporal_heads": 0, "scale_shift": True},
    ],
    ids=str,
)
def test_every_parameter_has_one_pair(options: dict[str, object]) -> None:
    model = with_options(options)
    pairs = unet_keys(model.config)
    own = [pair.own for pair in pairs]
    assert sorted(own) == sorted(model.state_dict())
    assert len({pair.official for pair in pairs}) == len(pairs)


def test_reshapes_are_declared_where_the_official_tensor_has_more_axes() -> None:
    model = with_options({"temporal_convolution": True})
    pairs = {pair.own: pair for pair in unet_keys(model.config)}
    official = to_official_state(model.state_dict(), tuple(pairs.values()))
    shape_of = {own: tuple(official[pair.official].shape) for own, pair in pairs.items()}
    assert shape_of["temporal_in.proj_in.weight"] == (8, 8, 1)
    assert shape_of["middle_in.temporal.proj_in.weight"] == (16, 16)
    assert shape_of["middle_out.temporal.convs.3.weight"] == (16, 16, 3, 1, 1)
    assert shape_of["up_stages.0.layers.0.residual.skip.weight"] == (16, 32, 1, 1)


def test_the_upsampler_stands_behind_the_transformers_of_its_level() -> None:
    names = {pair.own: pair.official for pair in unet_keys(with_options({}).config)}
    without = {pair.own: pair.official for pair in unet_keys(with_options({"attention_levels": ()}).config)}
    own = "up_stages.0.resample.conv.weight"
    assert names[own] == "model.diffusion_model.output_blocks.1.3.conv.weight"
    assert without[own] == "model.diffusion_model.output_blocks.1.1.conv.weight"


@pytest.fixture
def checkpoint() -> tuple[tuple[KeyPair, ...], dict[str, Tensor]]:
    model = with_options({})
    pairs = unet_keys(model.config)
    return pairs, to_official_state(model.state_dict(), pairs)


def test_other_networks_in_the_checkpoint_are_left_alone(checkpoint) -> None:
    pairs, official = checkpoint
    own = to_own_state({**official, "betas": torch.zeros(3), "cond_stage_model.x": torch.zeros(1)}, pairs)
    assert own.keys() == {pair.own for pair in pairs}


def test_a_missing_and_an_unknown_key_are_both_named(checkpoint) -> None:
    pairs, official = checkpoint
    del official["model.diffusion_model.out.2.bias"]
    official["model.diffusion_model.surprise"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"lacks 1 keys \(.*out\.2\.bias\) and has unknown 1 keys \(.*surprise"):
        to_own_state(official, pairs)


def test_the_way_back_is_strict_too(checkpoint) -> None:
    pairs, _ = checkpoint
    with pytest.raises(ValueError, match="the VideoUNet lacks"):
        to_official_state({}, pairs)


def test_an_axis_that_is_not_1_is_no_reshape() -> None:
    pair = KeyPair(official="a", own="b", unit_axes=1)
    with pytest.raises(ValueError, match=r"a has shape \(2, 3\), but must end in 1 axes"):
        pair.to_own(torch.zeros(2, 3))


@pytest.mark.parametrize("option", ["frame_text_condition", "place_condition"])
def test_parts_of_the_miniature_have_no_official_name(option: str) -> None:
    with pytest.raises(ValueError, match=option):
        unet_keys(with_options({option: True}).config)
