from typing import Any

import pytest
import torch

from tests.unit.checkpoints.official.official_shapes import part_shapes
from videocrafter.checkpoints.official.unet_config import unet_config_from_official
from videocrafter.checkpoints.official.unet_keys import OFFICIAL_PREFIX, unet_keys
from videocrafter.checkpoints.official.unet_shapes import unet_params_from_shapes
from videocrafter.models.unet import VideoUNet

SMALL = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "attention_resolutions": [2, 1],
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "num_head_channels": 16,
    "transformer_depth": 1,
    "temporal_transformer_depth": 1,
    "context_dim": 24,
    "temporal_length": 16,
    "use_linear": True,
    "use_relative_position": False,
    "temporal_conv": False,
    "addition_attention": True,
    "fps_cond": False,
    "use_image_attention": False,
    "use_scale_shift_norm": False,
}


def shapes_of(params: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    config = unet_config_from_official(params)
    with torch.device("meta"):
        network = VideoUNet(**config)
    return part_shapes(network, unet_keys(config))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channel_mult": [2, 1, 3], "attention_resolutions": [1, 4], "num_res_blocks": 3},
        {"channel_mult": [1], "attention_resolutions": []},
        {"channel_mult": [1, 2, 3, 4, 4], "attention_resolutions": [1, 16]},
        {"use_relative_position": True, "temporal_length": 5, "addition_attention": False},
        {"temporal_conv": True, "fps_cond": True, "use_image_attention": True, "in_channels": 8, "out_channels": 3},
        {"transformer_depth": 2, "temporal_transformer_depth": 2, "use_scale_shift_norm": True},
        {"num_head_channels": 64, "model_channels": 64, "addition_attention": False},
    ],
    ids=str,
)
def test_shapes_give_every_option_back(changes: dict[str, Any]):
    params = {**SMALL, **changes}
    found = unet_params_from_shapes({**shapes_of(params), "betas": (1000,)})
    assert {**found, "attention_resolutions": sorted(found["attention_resolutions"])} == {
        **params,
        "attention_resolutions": sorted(params["attention_resolutions"]),
    }


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("input_blocks.0.0.weight", None, "lacks 'model.diffusion_model.input_blocks.0.0.weight'"),
        ("input_blocks.0.0.weight", (32, 4, 3, 3, 3), "expected 4 axes"),
        ("input_blocks.3.0.op.weight", (64, 64, 3, 3), r"do not form levels of equal depth: .* \[2, 3\]"),
        ("input_blocks.1.0.op.weight", (64, 64, 3, 3), r"do not form levels of equal depth: .* \[1, 2\]"),
        ("input_blocks.3.0.out_layers.3.weight", (50, 50, 3, 3), r"levels have widths \[32, 50\]"),
    ],
)
def test_what_is_no_such_network_is_named(key: str, shape: tuple[int, ...] | None, message: str):
    shapes: dict[str, Any] = {**shapes_of(SMALL), f"{OFFICIAL_PREFIX}{key}": shape}
    with pytest.raises(ValueError, match=message):
        unet_params_from_shapes({key: value for key, value in shapes.items() if value is not None})


def test_projections_by_convolution_are_another_network():
    shapes = {**shapes_of(SMALL), f"{OFFICIAL_PREFIX}middle_block.1.proj_in.weight": (64, 64, 1, 1)}
    with pytest.raises(ValueError, match="use_linear is False"):
        unet_config_from_official(unet_params_from_shapes(shapes))
