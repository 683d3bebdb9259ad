import inspect

import pytest

from videocrafter.checkpoints.official.unet_config import unet_config_from_official
from videocrafter.models.unet import VideoUNet

PARAMS = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_head_channels": 64,
    "transformer_depth": 1,
    "context_dim": 1024,
    "use_linear": True,
    "use_checkpoint": True,
    "temporal_conv": True,
    "use_relative_position": False,
    "temporal_length": 16,
    "addition_attention": True,
    "fps_cond": True,
}


def test_a_released_config() -> None:
    config = unet_config_from_official(PARAMS)
    assert config["attention_levels"] == (0, 1, 2)
    assert config["initial_temporal_heads"] == 8
    assert config["temporal_convolution"]
    assert not config["relative_position"]
    assert config["temporal_layers_on_images"]


def test_every_argument_is_written_out() -> None:
    arguments = set(inspect.signature(VideoUNet.__init__).parameters) - {"self"}
    assert set(unet_config_from_official(PARAMS)) == arguments


def test_what_the_config_does_not_say_is_what_the_official_code_does() -> None:
    left_out = ("channel_mult", "temporal_conv", "use_relative_position", "addition_attention", "fps_cond")
    config = unet_config_from_official({k: v for k, v in PARAMS.items() if k not in left_out})
    assert config["channel_mult"] == (1, 2, 4, 8)
    assert config["relative_position"]
    assert not config["temporal_convolution"]
    assert not config["fps_condition"]
    assert config["initial_temporal_heads"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fps_cnd": True}, "unknown option 'fps_cnd'.*did you mean 'fps_cond'"),
        ({"zzzzzzzz": 1}, "unknown option 'zzzzzzzz'.*expected some of"),
        ({"attention_resolutions": [4, 16]}, r"contains \[16\].*only \[1, 2, 4, 8\]"),
        ({"use_causal_attention": True}, "use_causal_attention is True; VideoUNet supports only False"),
        ({"use_linear": False}, "use_linear is False"),
        ({"num_head_channels": -1}, "num_head_channels is -1"),
        ({"transformer_depth": 2}, "temporal_transformer_depth is 1 and transformer_depth 2"),
    ],
)
def test_what_cannot_be_translated_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unet_config_from_official({**PARAMS, **changes})


def test_a_missing_option_is_named() -> None:
    with pytest.raises(ValueError, match="lacks context_dim, in_channels"):
        unet_config_from_official({k: v for k, v in PARAMS.items() if k not in ("in_channels", "context_dim")})


def test_linear_projections_must_be_asked_for() -> None:
    """The official default is convolutions, unlike the released networks."""
    with pytest.raises(ValueError, match="use_linear"):
        unet_config_from_official({k: v for k, v in PARAMS.items() if k != "use_linear"})
