"""The towers and the image projector against numbers of the official implementation.

The data are outputs of the official code at miniature size; the weights behind them follow from a rule (a
seeded draw for every state-dict key), which is repeated here.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from videocrafter.models.image_encoder import encode_image, null_image, preprocess
from videocrafter.models.image_projector import ImageProjector

DATA = Path(__file__).parent / "data"
SPEC = json.loads((DATA / "i2v_512_v1.json").read_text(encoding="utf-8"))
EXPECTED = load_file(DATA / "i2v_512_v1.safetensors")
CLIP, RESAMPLER = SPEC["dims"]["clip"], SPEC["dims"]["resampler"]

RENAMED = (
    ("class_embedding", "embeddings.class_embedding"),
    ("token_embedding.weight", "embeddings.token_embedding.weight"),
    ("conv1.", "embeddings.patch_embedding."),
    ("ln_pre.", "pre_layrnorm."),
    ("ln_post.", "post_layernorm."),
    ("ln_final.", "final_layer_norm."),
    ("transformer.resblocks.", "encoder.layers."),
    (".attn.", ".self_attn."),
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".c_fc.", ".fc1."),
    (".c_proj.", ".fc2."),
)


def weights(prefix: str) -> dict[str, Tensor]:
    """Every weight under a prefix of the official checkpoint, by its name there without the prefix."""
    drawn = {}
    for key, shape in SPEC["keys"].items():
        if not key.startswith(prefix) or not shape:
            continue
        state = np.random.RandomState(zlib.crc32(f"{SPEC['seed']}:{key}".encode()))
        r = state.standard_normal(shape).astype(np.float32)
        if len(shape) >= 2:
            r = r / np.sqrt(np.prod(shape[1:]))
        else:
            r = 1 + 0.1 * r if key.endswith("weight") else 0.1 * r
        drawn[key.removeprefix(prefix)] = torch.from_numpy(r.astype(np.float32))
    return drawn


def as_transformers(official: dict[str, Tensor]) -> dict[str, Tensor]:
    converted = {}
    for key, value in official.items():
        if key == "positional_embedding":
            converted["embeddings.position_embedding.weight"] = value
            continue
        for old, new in RENAMED:
            key = key.replace(old, new)
        if "in_proj_" in key:
            for name, part in zip("qkv", value.chunk(3), strict=True):
                converted[key.replace("in_proj_", f"{name}_proj.")] = part
        else:
            converted[key] = value
    return converted


def relative_error(got: Tensor, wanted: Tensor) -> float:
    return ((got - wanted).abs().max() / wanted.std()).item()


@pytest.fixture(scope="module")
def image_encoder() -> CLIPVisionModel:
    config = CLIPVisionConfig(
        hidden_size=CLIP["v_width"],
        intermediate_size=4 * CLIP["v_width"],
        num_hidden_layers=CLIP["v_layers"],
        num_attention_heads=CLIP["v_width"] // CLIP["v_head"],
        patch_size=CLIP["v_patch"],
        image_size=224,
        hidden_act="gelu",
    )
    model = CLIPVisionModel(config).eval().requires_grad_(False)
    official = weights("embedder.model.visual.")
    del official["proj"]
    model.load_state_dict(as_transformers(official))
    return model


@pytest.fixture(scope="module")
def projector() -> ImageProjector:
    model = ImageProjector(
        dim=RESAMPLER["dim"],
        depth=RESAMPLER["depth"],
        dim_head=RESAMPLER["dim_head"],
        heads=RESAMPLER["heads"],
        num_queries=RESAMPLER["queries"],
        embedding_dim=CLIP["v_width"],
        output_dim=CLIP["t_width"],
    )
    model.load_state_dict(weights("image_proj_model."))
    return model.eval().requires_grad_(False)


def test_preprocessing() -> None:
    prepared = preprocess(EXPECTED["image.pixels"], 224)[..., ::7, ::7]
    assert relative_error(prepared, EXPECTED["image.preprocessed_every_7th"]) < 1e-4


def test_image_encoder(image_encoder: CLIPVisionModel) -> None:
    tokens = encode_image(image_encoder, EXPECTED["image.pixels"])
    assert relative_error(tokens, EXPECTED["image.clip_tokens"]) < 1e-4


def test_image_projector(projector: ImageProjector) -> None:
    assert relative_error(projector(EXPECTED["image.clip_tokens"]), EXPECTED["image.tokens"]) < 1e-4


def test_null_image(image_encoder: CLIPVisionModel, projector: ImageProjector) -> None:
    tokens = projector(encode_image(image_encoder, null_image(2, image_encoder)))
    assert relative_error(tokens, EXPECTED["image.null_tokens"]) < 1e-4


@pytest.mark.parametrize("kind", ["", "null_"])
def test_text_encoder_is_the_penultimate_layer_with_the_final_norm(kind: str) -> None:
    config = CLIPTextConfig(
        vocab_size=CLIP["vocab"],
        hidden_size=CLIP["t_width"],
        intermediate_size=4 * CLIP["t_width"],
        num_hidden_layers=CLIP["t_layers"] - 1,
        num_attention_heads=CLIP["t_heads"],
        hidden_act="gelu",
        eos_token_id=CLIP["vocab"] - 1,
    )
    model = CLIPTextModel(config).eval().requires_grad_(False)
    official = weights("cond_stage_model.model.")
    del official["text_projection"]
    last_block = f"transformer.resblocks.{CLIP['t_layers'] - 1}."
    official = {key: value for key, value in official.items() if not key.startswith(last_block)}
    model.load_state_dict(as_transformers(official))
    embedding = model(input_ids=EXPECTED[f"text.{kind}tokens"]).last_hidden_state
    assert relative_error(embedding, EXPECTED[f"text.{kind}embedding"]) < 1e-4
