import pytest
import torch

from tests.unit.checkpoints.official.official_shapes import part_shapes, to_official
from videocrafter.checkpoints.official.unet_keys import unet_keys
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
def test_every_parameter_has_one_rule(options: dict[str, object]) -> None:
    model = with_options(options)
    shapes = part_shapes(model, unet_keys(model.config))
    assert all(key.startswith("model.diffusion_model.") for key in shapes)


def test_reshapes_are_declared_where_the_official_tensor_has_more_axes() -> None:
    model = with_options({"temporal_convolution": True})
    rules = {rule.own[0]: rule for rule in unet_keys(model.config)}
    official = to_official(model.state_dict(), rules.values())
    shape_of = {own: tuple(official[rule.official].shape) for own, rule in rules.items()}
    assert shape_of["temporal_in.proj_in.weight"] == (8, 8, 1)
    assert shape_of["middle_in.temporal.proj_in.weight"] == (16, 16)
    assert shape_of["middle_out.temporal.convs.3.weight"] == (16, 16, 3, 1, 1)
    assert shape_of["up_stages.0.layers.0.residual.skip.weight"] == (16, 32, 1, 1)


def test_the_upsampler_stands_behind_the_transformers_of_its_level() -> None:
    names = {rule.own[0]: rule.official for rule in unet_keys(with_options({}).config)}
    without = {rule.own[0]: rule.official for rule in unet_keys(with_options({"attention_levels": ()}).config)}
    own = "up_stages.0.resample.conv.weight"
    assert names[own] == "model.diffusion_model.output_blocks.1.3.conv.weight"
    assert without[own] == "model.diffusion_model.output_blocks.1.1.conv.weight"


def test_there_and_back_is_the_same() -> None:
    model = with_options({"temporal_convolution": True, "relative_position": True})
    rules = unet_keys(model.config)
    official = to_official(model.state_dict(), rules)
    own = {name: tensor for rule in rules for name, tensor in rule.to_own(official).items()}
    assert own.keys() == model.state_dict().keys()
    assert all(torch.equal(own[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("option", ["frame_text_condition", "place_condition"])
def test_parts_of_the_miniature_have_no_official_name(option: str) -> None:
    with pytest.raises(ValueError, match=option):
        unet_keys(with_options({option: True}).config)
