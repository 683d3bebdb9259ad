from typing import Any

import pytest

from tests.tiny_sd import VIDEO_NETWORK, tiny_sd_unet
from videocrafter.checkpoints.stable_diffusion.config import spatial_config_from_sd

# The published configs, with the entries in which they differ.
SD_1_5: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
SD_2_1 = {**SD_1_5, "attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024, "use_linear_projection": True}


def test_stable_diffusion_2_1_is_the_network_that_the_paper_extends() -> None:
    assert spatial_config_from_sd(SD_2_1) == {
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 320,
        "channel_mult": (1, 2, 4, 4),
        "num_res_blocks": 2,
        "attention_levels": (0, 1, 2),
        "head_dim": 64,
        "transformer_depth": 1,
        "context_dim": 1024,
        "norm_groups": 32,
        "scale_shift": False,
    }


def test_the_config_that_diffusers_writes_is_read() -> None:
    config = tiny_sd_unet().config
    assert spatial_config_from_sd({**config, "_class_name": "UNet2DConditionModel"}).items() >= VIDEO_NETWORK.items()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (SD_1_5, r"seems to be Stable Diffusion 1.x \(cross_attention_dim 768, not 1024\)"),
        ({"cross_attention_dim": 2048}, "seems to be Stable Diffusion XL"),
        ({"cross_attention_dim": [1024, 1024]}, "seems to be another model"),
        ({"in_channels": 9}, "seems to be inpainting"),
        ({"in_channels": 5}, "seems to be a depth model"),
        ({"use_linear_projection": False}, "use_linear_projection=False; Stable Diffusion 2.1 has True"),
        ({"addition_embed_type": "text_time"}, "addition_embed_type='text_time'"),
        ({"attention_head_dim": 8}, r"attention heads have widths \[40, 80, 160\]"),
        ({"layers_per_block": [2, 2, 2, 1]}, "layers_per_block"),
        ({"up_block_types": ["UpBlock2D"] * 4}, "has blocks"),
        ({"_class_name": "UNet3DConditionModel"}, "its unet is 'UNet3DConditionModel'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_something_else_is_named(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        spatial_config_from_sd({**SD_2_1, **changes})


def test_a_config_that_lacks_something_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks block_out_channels, down_block_types"):
        spatial_config_from_sd({"_class_name": "UNet2DConditionModel", "in_channels": 4, "out_channels": 4})
