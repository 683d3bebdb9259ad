from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from tests.tiny_sd import NETWORK, VIDEO_NETWORK
from videocrafter.checkpoints.official.variants import official_variant
from videocrafter.checkpoints.stable_diffusion.keys import new_parts, sd_keys
from videocrafter.models.unet import VideoUNet

VIDEO_OPTIONS = official_variant("t2v-256").unet
# From the published config of Stable Diffusion 2.1.
SD_2_1: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
SD_2_1_PARAMETERS = 865_910_724


def shapes_of(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def check_both_sides(image_network: torch.nn.Module, video_network: VideoUNet) -> None:
    pairs, parts = sd_keys(video_network.config), new_parts(video_network.config)
    theirs, ours = shapes_of(image_network), shapes_of(video_network)
    assert sorted(pair.sd for pair in pairs) == sorted(theirs)
    assert {pair.own: theirs[pair.sd] for pair in pairs} == {pair.own: ours[pair.own] for pair in pairs}
    new = [name for name in ours if name not in {pair.own for pair in pairs}]
    # Each remaining parameter belongs to exactly one new part, and every new part exists.
    assert [name for name in new if sum(name.startswith(part.prefix) for part in parts) != 1] == []
    assert [part for part in parts if not any(name.startswith(part.prefix) for name in new)] == []


def test_all_of_stable_diffusion_2_1_has_its_place_in_the_full_size_network() -> None:
    with torch.device("meta"):
        image_network = UNet2DConditionModel(**SD_2_1)
        video_network = VideoUNet(**VIDEO_OPTIONS)
    assert sum(parameter.numel() for parameter in image_network.parameters()) == SD_2_1_PARAMETERS
    check_both_sides(image_network, video_network)


@pytest.mark.parametrize(
    ("image", "video"),
    [
        ({}, {}),
        ({}, {"temporal_convolution": True, "relative_position": True, "initial_temporal_heads": 0}),
        ({}, {"image_cross_attention": True, "fps_condition": False}),
        ({}, {"frame_text_condition": True, "place_condition": True}),
        ({"layers_per_block": 1}, {"num_res_blocks": 1}),
        ({"transformer_layers_per_block": 2}, {"transformer_depth": 2}),
        (
            {
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            },
            {"attention_levels": (1,)},
        ),
    ],
    ids=str,
)
def test_every_parameter_has_one_place_whatever_is_switched_on(image: dict[str, Any], video: dict[str, Any]) -> None:
    with torch.device("meta"):
        check_both_sides(UNet2DConditionModel(**{**NETWORK, **image}), VideoUNet(**{**VIDEO_NETWORK, **video}))


def test_the_layers_that_silence_new_parts_are_there() -> None:
    network = VideoUNet(**VIDEO_NETWORK, temporal_convolution=True, frame_text_condition=True, place_condition=True)
    parts = [part for part in new_parts(network.config) if part.zero_layers]
    assert len(parts) > 20
    for part in parts:
        for layer in part.zero_layers:
            assert network.get_submodule(part.prefix + layer).weight is not None
