from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from tests.tiny_models import tiny_pipeline
from videocrafter.evaluation.metrics.clip_towers import CLIP, CLIP_COMPAT, TOWER, ClipFolder, ImageTower
from videocrafter.models.image_encoder import CLIP_MEAN, CLIP_STD
from videocrafter.models.tokenizer import build_word_tokenizer

FRAMES = [np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    layer = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokenizer = build_word_tokenizer(["a", "red", "kite"], 8)
    text = layer | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 8,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = layer | {"image_size": 16, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def cosine_by_transformers(folder: Path, pixels: torch.Tensor, prompt: str) -> float:
    from transformers import AutoTokenizer

    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        out = model(**tokenizer([prompt], return_tensors="pt"), pixel_values=pixels)
    return float((out.image_embeds @ out.text_embeds.T).item())


def test_the_cosine_is_that_of_the_whole_model(clip_folder):
    clip = ClipFolder(clip_folder, outputs=(CLIP, CLIP_COMPAT))
    frames, text = clip.of_frames(FRAMES), clip.of_prompt("a red kite")
    raw = torch.from_numpy(FRAMES[0]).permute(2, 0, 1)[None].float()
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (CLIP_MEAN, CLIP_STD))
    expected = cosine_by_transformers(clip_folder, (raw / 255 - mean) / std, "a red kite")
    assert float(frames[CLIP][0] @ text[CLIP]) == pytest.approx(expected, abs=1e-5)
    # EvalCrafter's released code passes 0 to 255 without normalisation.
    compat = cosine_by_transformers(clip_folder, raw, "a red kite")
    assert float(frames[CLIP_COMPAT][0] @ text[CLIP_COMPAT]) == pytest.approx(compat, abs=1e-5)
    assert compat != pytest.approx(expected, abs=1e-3)


def test_drawn_pictures_are_compared_as_frames_are_or_as_the_released_code_does(clip_folder):
    clip = ClipFolder(clip_folder, outputs=(CLIP, CLIP_COMPAT))
    drawn, frames = clip.of_drawn_images(FRAMES), clip.of_frames(FRAMES)
    assert drawn[CLIP] == pytest.approx(frames[CLIP])
    raw = torch.from_numpy(FRAMES[0]).permute(2, 0, 1)[None].float()
    expected = cosine_by_transformers(clip_folder, raw / 255, "a red kite")
    assert float(drawn[CLIP_COMPAT][0] @ clip.of_prompt("a red kite")[CLIP]) == pytest.approx(expected, abs=1e-5)


def test_long_prompts_are_cut_and_vectors_have_length_one(clip_folder):
    clip = ClipFolder(clip_folder)
    assert np.linalg.norm(clip.of_prompt("a red kite " * 30)[CLIP]) == pytest.approx(1, abs=1e-5)
    assert len(clip.sha256) == 64


def test_a_folder_without_clip_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="is not a readable CLIP model"):
        ClipFolder(tmp_path)


def test_a_pipelines_own_tower_compares_images():
    tower = ImageTower(tiny_pipeline(image=True).image_encoder)
    same, other = FRAMES[0], 255 - FRAMES[0]
    vectors = tower.of_frames([same, same, other])[TOWER]
    assert vectors[0] @ vectors[1] == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[2] < 0.999
