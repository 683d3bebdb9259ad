"""Identify checkpoints of other formats."""

import gzip
import json
from pathlib import Path

import pytest

from videocrafter.checkpoints.official.other_formats import describe_other_format, is_videocrafter, other_format

KEYS = Path(__file__).parents[3] / "golden" / "data" / "official_keys.json.gz"
OFFICIAL = {
    variant: {key: tuple(shape) for key, (shape, _) in keys.items()}
    for variant, keys in json.loads(gzip.decompress(KEYS.read_bytes())).items()
}
DENOISER = "model.diffusion_model."
CROSS = "transformer_blocks.0.attn2.to_k.weight"


def image_model(width: int, channels: int = 4) -> dict[str, tuple[int, ...]]:
    return {
        f"{DENOISER}input_blocks.0.0.weight": (320, channels, 3, 3),
        f"{DENOISER}input_blocks.1.1.{CROSS}": (320, width),
        "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
    }


def dynamicrafter() -> dict[str, tuple[int, ...]]:
    return {
        **OFFICIAL["i2v_512_v1"],
        f"{DENOISER}input_blocks.0.0.weight": (320, 8, 3, 3),
        "image_proj_model.latents": (1, 256, 1024),
    }


FOREIGN = [
    ("Stable Diffusion 1", "from_single_file", image_model(768)),
    ("Stable Diffusion 1", "from_single_file", image_model(768, channels=9)),
    ("Stable Diffusion 2", "videocrafter init", image_model(1024)),
    ("Stable Diffusion XL", "StableDiffusionXLPipeline", image_model(2048)),
    ("Stable Diffusion XL", "StableDiffusionXLPipeline", {**image_model(2048), "conditioner.embedders.0.a": (1,)}),
    ("an image model", "no temporal layers", image_model(640)),
    ("DynamiCrafter", "8 input channels", dynamicrafter()),
    ("Video Diffusion", "StableVideo", {**image_model(1024), f"{DENOISER}input_blocks.1.1.time_stack.0.a": (1,)}),
    ("a LoRA", "load_lora_weights", {"lora_unet_down_blocks_0_attn.lora_down.weight": (4, 320)}),
    ("a LoRA", "load_lora_weights", {"unet.down_blocks.0.to_q.lora_A.default.weight": (4, 320)}),
    ("a LoRA", "load_lora_weights", {"unet.down_blocks.0.to_q.lora.up.weight": (4, 320)}),
    ("AnimateDiff", "AnimateDiffPipeline", {"down_blocks.0.motion_modules.0.norm.weight": (320,)}),
    ("ControlNet", "StableDiffusionControlNet", {"control_model.input_hint_block.0.weight": (16, 3, 3, 3)}),
    ("3D convolutions", "not supported", {f"{DENOISER}input_blocks.0.0.weight": (320, 4, 1, 3, 3)}),
    (
        "a denoiser in diffusers' format",
        "original",
        {"down_blocks.0.a": (1,), "time_embedding.linear_1.weight": (1, 1)},
    ),
    ("a VAE in diffusers' format", "one part", {"decoder.up_blocks.0.resnets.0.norm1.weight": (512,)}),
    ("a VAE alone", "one part", {"decoder.up.0.block.0.norm1.weight": (128,)}),
    ("a VAE alone", "one part", {"first_stage_model.quant_conv.weight": (8, 8, 1, 1)}),
    ("tower alone", "one part", {"text_model.embeddings.token_embedding.weight": (49408, 768)}),
    ("converted", "model_index.json", {"down_stages.0.a": (1,), "timestep_embedding.linear_1.weight": (1, 1)}),
    ("without its key prefix", "'model.diffusion_model.'", {"input_blocks.0.0.weight": (320, 4, 3, 3)}),
]


@pytest.mark.parametrize(("name", "advice", "shapes"), FOREIGN)
def test_kinds_are_named_with_what_would_work(name: str, advice: str, shapes: dict[str, tuple[int, ...]]):
    assert not is_videocrafter(shapes)
    sentence = describe_other_format(shapes)
    assert sentence.startswith("seems to be")
    assert name in sentence
    assert advice in sentence


def test_something_unknown_is_shown():
    sentence = describe_other_format({"layers.1.weight": (3, 3), "head.bias": (3,)})
    assert "'head.bias', 'layers.1.weight'" in sentence


@pytest.mark.parametrize("variant", OFFICIAL)
def test_official_checkpoints_are_not_foreign(variant: str):
    assert is_videocrafter(OFFICIAL[variant])
    assert other_format(OFFICIAL[variant]) is None
