"""Networks of a model on the meta device."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig

from tests.official_checkpoints import small_params
from videocrafter.checkpoints.official.meta_networks import (
    OFFICIAL_BLOCKS,
    build_networks,
    check_fits,
    without_tower,
    write_config,
)
from videocrafter.checkpoints.official.official_model import official_model_from_config
from videocrafter.models.unet import VideoUNet

MODEL = official_model_from_config(small_params(image=True))


def test_networks_have_no_memory():
    networks = build_networks(MODEL)
    assert list(networks) == ["unet", "vae", "text_encoder", "image_encoder", "image_projector"]
    assert {one.device.type for network in networks.values() for one in network.parameters()} == {"meta"}


def test_their_configs_build_them_again(tmp_path: Path):
    networks = build_networks(MODEL)
    for part, network in networks.items():
        (tmp_path / part).mkdir()
        write_config(tmp_path / part, network, torch.float16)
    with torch.device("meta"):
        unet = VideoUNet.from_config(VideoUNet.load_config(tmp_path / "unet"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(tmp_path / "vae"))
    for again, first in ((unet, networks["unet"]), (vae, networks["vae"])):
        assert {name: value.shape for name, value in again.state_dict().items()} == {
            name: value.shape for name, value in first.state_dict().items()
        }
    text = json.loads((tmp_path / "text_encoder" / "config.json").read_text())
    assert (text["architectures"], text["dtype"], text[OFFICIAL_BLOCKS]) == (["CLIPTextModel"], "float16", 2)
    assert CLIPTextConfig.from_pretrained(tmp_path / "text_encoder").num_hidden_layers == 1


def test_what_does_not_fit_is_named():
    networks = build_networks(MODEL)
    shapes = {name: tuple(value.shape) for name, value in networks["text_encoder"].state_dict().items()}
    check_fits("text_encoder", networks["text_encoder"], shapes, "here")
    with_tower = {f"text_model.{without_tower(name)}": shape for name, shape in shapes.items()}
    check_fits("text_encoder", networks["text_encoder"], with_tower, "here")
    norm = "final_layer_norm.weight"
    wrong = {without_tower(name): shape for name, shape in shapes.items()} | {norm: (3,), "surplus": (1,)}
    del wrong["final_layer_norm.bias"]
    message = (
        r"its text_encoder does not match its config: final_layer_norm\.bias is missing in here, .* \(3 mismatches"
    )
    with pytest.raises(ValueError, match=message):
        check_fits("text_encoder", networks["text_encoder"], wrong, "here")
