import pytest
import torch
from diffusers import AutoencoderKL

from tests.unit.checkpoints.official.official_shapes import part_shapes
from videocrafter.checkpoints.official.vae_keys import vae_config_from_official, vae_config_from_shapes, vae_keys

RELEASED = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}


def params(**changes: object) -> dict[str, object]:
    return {"embed_dim": 4, "monitor": "val/rec_loss", "ddconfig": {**RELEASED, **changes}}


def shapes_of(config: dict[str, object]) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = AutoencoderKL(**config)
    return part_shapes(network, vae_keys(config))


def test_the_released_autoencoder():
    config = vae_config_from_official(params(), latent_scale=0.5)
    assert config["block_out_channels"] == (128, 256, 512, 512)
    assert (config["scaling_factor"], config["sample_size"], config["norm_num_groups"]) == (0.5, 256, 32)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ch": 32, "ch_mult": [1], "num_res_blocks": 1},
        {"ch": 32, "ch_mult": [1, 2, 2, 2], "num_res_blocks": 1},
        {"ch": 32, "ch_mult": [1, 3, 2], "num_res_blocks": 3, "in_channels": 12, "out_ch": 12},
        {"ch": 64, "ch_mult": [1, 1, 1, 1, 2], "z_channels": 16},
    ],
    ids=str,
)
def test_every_parameter_has_one_rule_and_shapes_give_the_config_back(changes: dict[str, object]):
    config = vae_config_from_official({"ddconfig": {**RELEASED, "resolution": 512, **changes}})
    shapes = shapes_of(config)
    assert all(key.startswith("first_stage_model.") for key in shapes)
    assert vae_config_from_shapes({**shapes, "betas": (1000,)}) == config


def test_levels_on_the_way_up_are_counted_from_the_smallest():
    config = vae_config_from_official(params(ch=32, ch_mult=[1, 2], num_res_blocks=1))
    names = {rule.own[0]: rule.official.removeprefix("first_stage_model.") for rule in vae_keys(config)}
    assert names["decoder.up_blocks.0.resnets.0.conv1.weight"] == "decoder.up.1.block.0.conv1.weight"
    assert names["decoder.up_blocks.1.resnets.1.conv1.weight"] == "decoder.up.0.block.1.conv1.weight"
    assert names["decoder.up_blocks.0.upsamplers.0.conv.bias"] == "decoder.up.1.upsample.conv.bias"
    assert names["encoder.down_blocks.0.downsamplers.0.conv.bias"] == "encoder.down.0.downsample.conv.bias"
    assert names["decoder.up_blocks.1.resnets.0.conv_shortcut.weight"] == "decoder.up.0.block.0.nin_shortcut.weight"


def test_attention_in_the_middle_is_linear_here_and_a_convolution_there():
    shapes = shapes_of(vae_config_from_official(params(ch=32, ch_mult=[1])))
    for name in ("q", "k", "v", "proj_out"):
        assert shapes[f"first_stage_model.decoder.mid.attn_1.{name}.weight"] == (32, 32, 1, 1)
        assert shapes[f"first_stage_model.decoder.mid.attn_1.{name}.bias"] == (32,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attn_resolutions": [32]}, r"attn_resolutions is \[32\]; expected an empty list"),
        ({"double_z": False}, "double_z is False; AutoencoderKL supports only True"),
        ({"attn_type": "linear"}, "attn_type is 'linear'"),
        ({"dims": 3}, "unknown options dims in first_stage_config"),
        ({"ch": "128"}, "ddconfig.ch is '128'; expected a positive integer"),
        ({"num_res_blocks": 0}, "num_res_blocks is 0"),
        ({"ch_mult": 4}, r"ch_mult is 4; expected a list of positive integers"),
        ({"ch_mult": []}, r"ch_mult is \[\]"),
        ({"ch_mult": [2, 4]}, r"ch_mult is \[2, 4\]; expected a list that begins with 1"),
        ({"z_channels": 8}, "embed_dim is 4 and z_channels is 8"),
    ],
)
def test_what_cannot_be_translated_is_named(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        vae_config_from_official(params(**changes))


def test_missing_sizes_are_named():
    with pytest.raises(ValueError, match="lacks ddconfig"):
        vae_config_from_official({"embed_dim": 4})
    with pytest.raises(ValueError, match="lacks ch, ch_mult"):
        vae_config_from_official({"ddconfig": {k: v for k, v in RELEASED.items() if k not in ("ch", "ch_mult")}})


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("encoder.down.1.attn.0.q.weight", (64, 64, 1, 1), "attention outside its middle block"),
        ("encoder.down.1.block.0.conv1.weight", (50, 32, 3, 3), r"levels have widths \[32, 50\]"),
        ("encoder.conv_in.weight", None, "lacks 'first_stage_model.encoder.conv_in.weight'"),
        ("post_quant_conv.weight", (4, 3, 1, 1), "embed_dim is 3 and z_channels is 4"),
    ],
)
def test_shapes_of_another_autoencoder_are_refused(key: str, shape: tuple[int, ...] | None, message: str):
    shapes = shapes_of(vae_config_from_official(params(ch=32, ch_mult=[1, 2], num_res_blocks=1)))
    shapes[f"first_stage_model.{key}"] = shape
    with pytest.raises(ValueError, match=message):
        vae_config_from_shapes({key: value for key, value in shapes.items() if value is not None})
