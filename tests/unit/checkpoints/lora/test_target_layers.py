from typing import Any

import pytest
import torch

from tests.tiny_loras import as_kohya, as_lora_down, as_peft, as_processors, as_text_layers, random_lora
from tests.tiny_sd import TEXT_WIDTH, VIDEO_NETWORK, tiny_sd_unet, tiny_text_encoder
from videocrafter.checkpoints.lora.lora_file import LoraLayer, parse_lora
from videocrafter.checkpoints.lora.target_layers import FittedLora, fit_lora
from videocrafter.checkpoints.stable_diffusion.keys import sd_keys
from videocrafter.models.unet import VideoUNet

with torch.device("meta"):
    VIDEO_UNET = VideoUNet(**VIDEO_NETWORK, image_cross_attention=True, temporal_convolution=True)
SD_UNET = tiny_sd_unet()
TEXT_ENCODER = tiny_text_encoder()
OWN = {pair.sd.removesuffix(".weight"): pair.own.removesuffix(".weight") for pair in sd_keys(VIDEO_UNET.config)}


def shapes(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(module.weight.shape)
        for name, module in network.named_modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
    }


SHAPES = {"unet": shapes(VIDEO_UNET), "text_encoder": shapes(TEXT_ENCODER)}


def fit(state: dict[str, torch.Tensor], **config: Any) -> FittedLora:
    return fit_lora(parse_lora(state, name="it"), {**VIDEO_UNET.config, **config}, SHAPES)


@pytest.mark.parametrize("layout", [as_kohya, as_peft, as_lora_down], ids=lambda layout: layout.__name__)
def test_every_layer_of_stable_diffusion_is_found(layout: Any) -> None:
    lora = random_lora(SD_UNET)
    fitted = fit(layout(lora))
    assert (fitted.left_out, fitted.note) == ((), None)
    assert fitted.layers.keys() == {"unet"}
    assert {name: one.down.data_ptr() for name, one in fitted.layers["unet"].items()} == {
        OWN[name]: one.down.data_ptr() for name, one in lora.items()
    }


def test_attention_processors_are_found() -> None:
    lora = random_lora(SD_UNET, lambda name: ".attn" in name)
    fitted = fit(as_processors(lora))
    assert fitted.layers["unet"].keys() == {OWN[name] for name in lora}
    assert fitted.left_out == ()


@pytest.mark.parametrize("layout", [as_kohya, as_peft], ids=lambda layout: layout.__name__)
def test_every_layer_of_our_own_network_is_found(layout: Any) -> None:
    """Including temporal layers and the image branch."""
    fitted = fit(layout(random_lora(VIDEO_UNET)))
    assert fitted.layers["unet"].keys() == SHAPES["unet"].keys()


@pytest.mark.parametrize("style", ["peft", "peft with text_model", "diffusers", "kohya", "old projections"])
def test_every_layer_of_the_text_encoder_is_found(style: str) -> None:
    lora = {name.removeprefix("text_model."): one for name, one in random_lora(TEXT_ENCODER).items()}
    state = {
        "peft": as_peft(lora, "text_encoder."),
        "peft with text_model": as_peft(lora, "text_encoder.text_model."),
        "diffusers": as_text_layers(lora),
        "kohya": as_kohya(lora, "lora_te_text_model_"),
        "old projections": {
            key.replace(".q_proj.lora.", ".to_q_lora.").replace(".out_proj.lora.", ".to_out_lora."): value
            for key, value in as_lora_down(lora, "text_encoder.text_model.").items()
        },
    }[style]
    fitted = fit(state)
    assert fitted.layers["text_encoder"].keys() == SHAPES["text_encoder"].keys()
    assert fitted.left_out == ()


def test_no_two_layers_share_a_spelling() -> None:
    for names in (SHAPES["unet"], OWN, SHAPES["text_encoder"]):
        assert len({name.replace(".", "_") for name in names}) == len(names)


def test_one_by_one_convolutions_and_linear_layers_are_the_same() -> None:
    projection, shortcut = "down_blocks.0.attentions.0.proj_in", "down_blocks.1.resnets.0.conv_shortcut"
    as_convolution = LoraLayer(down=torch.ones(2, 16, 1, 1), up=torch.ones(16, 2, 1, 1), alpha=1)
    as_linear = LoraLayer(down=torch.ones(2, 16), up=torch.ones(32, 2), alpha=1)
    fitted = fit(as_kohya({projection: as_convolution, shortcut: as_linear})).layers["unet"]
    assert {name: (tuple(one.down.shape), tuple(one.up.shape)) for name, one in fitted.items()} == {
        OWN[projection]: ((2, 16), (16, 2)),
        OWN[shortcut]: ((2, 16, 1, 1), (32, 2, 1, 1)),
    }


def test_what_does_not_fit_is_listed_in_one_line() -> None:
    good = LoraLayer(down=torch.ones(2, 16), up=torch.ones(16, 2), alpha=1)
    wide, long = torch.ones(2, 99), torch.ones(99, 2)
    state = as_peft(
        {
            "down_blocks.0.attentions.0.proj_in": good,
            "down_blocks.0.attentions.0.proj_out": LoraLayer(down=wide, up=good.up, alpha=1),
            "down_blocks.0.attentions.1.proj_in": LoraLayer(down=good.down, up=long, alpha=1),
            "down_blocks.0.attentions.1.proj_out": LoraLayer(down=torch.ones(2, 16, 3, 3), up=good.up, alpha=1),
            "down_blocks.9.attentions.0.proj_in": good,
        }
    )
    state["unet.down_blocks.0.attentions.0.proj_in_again.lora_A.weight"] = good.down
    fitted = fit(state)
    assert list(fitted.layers["unet"]) == [OWN["down_blocks.0.attentions.0.proj_in"]]
    assert fitted.note == (
        "5 of the LoRA's 6 layers do not match this model and are skipped"
        " (unet.down_blocks.0.attentions.0.proj_in_again, unet.down_blocks.0.attentions.0.proj_out,"
        " unet.down_blocks.0.attentions.1.proj_in, ...)"
    )


@pytest.mark.parametrize(
    ("width", "seems"), [(768, "Stable Diffusion 1.x"), (2048, "Stable Diffusion XL"), (640, "another model")]
)
@pytest.mark.parametrize("layout", [as_kohya, as_peft, as_processors], ids=lambda layout: layout.__name__)
def test_a_lora_that_reads_other_text_is_refused(width: int, seems: str, layout: Any) -> None:
    foreign = random_lora(tiny_sd_unet(cross_attention_dim=width), lambda name: ".attn" in name)
    with pytest.raises(
        ValueError, match=f"it seems to be a LoRA for {seems} .*{width}.*, but this model has"
    ) as caught:
        fit(layout(foreign))
    assert f"has width {TEXT_WIDTH}; use one for Stable Diffusion 2.x" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_lora_for_another_text_encoder_is_refused() -> None:
    foreign = random_lora(tiny_text_encoder(hidden_size=768))
    with pytest.raises(ValueError, match=r"Stable Diffusion 1.x .its text encoder has width 768"):
        fit(as_peft(foreign, "text_encoder."))


@pytest.mark.parametrize(
    ("name", "seems"),
    [
        ("down_blocks.0.motion_modules.0.temporal_transformer.proj_in", "an AnimateDiff motion LoRA"),
        ("transformer.double_blocks.0.img_attn_qkv", "a LoRA for Flux"),
        ("lora_te2_text_model_encoder_layers_0_mlp_fc1", "a LoRA for Stable Diffusion XL"),
        ("something.else", "use a LoRA for Stable Diffusion"),
    ],
)
def test_a_lora_of_which_nothing_fits_is_refused(name: str, seems: str) -> None:
    layer = LoraLayer(down=torch.ones(2, 5), up=torch.ones(5, 2), alpha=1)
    with pytest.raises(ValueError, match=rf"none of the 1 layers of it matches a layer .* \({name}\); .*{seems}"):
        fit(as_peft({name: layer}, ""))
