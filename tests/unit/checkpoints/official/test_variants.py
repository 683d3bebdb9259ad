from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.official_checkpoints import official_shapes
from videocrafter.checkpoints.official import variants
from videocrafter.checkpoints.official.official_model import official_model_from_shapes
from videocrafter.checkpoints.official.variants import matching_preset, official_variant
from videocrafter.diffusion.schedule import signal_scale
from videocrafter.presets import PRESETS

KEYS = Path(__file__).parents[3] / "golden" / "data" / "official_keys.json.gz"
LISTED = {
    "t2v-512": ("t2v_512_v1", None),
    "t2v-512-early": ("t2v_512_v1_early", 0.7),
    "t2v-1024": ("t2v_1024_v1", 0.3),
    "i2v-512": ("i2v_512_v1", 0.7),
    "vc2-t2v-512": ("t2v_512_v2", 0.7),
}


@pytest.mark.parametrize("name", LISTED)
def test_a_variant_is_what_its_checkpoint_says(name: str):
    listed, scale = LISTED[name]
    shapes = {key: tuple(shape) for key, (shape, _) in json.loads(gzip.decompress(KEYS.read_bytes()))[listed].items()}
    length = shapes.get("scale_arr", (0,))[0]
    found = official_model_from_shapes(shapes, signal_scale(scale, length).float() if length else None)
    known = official_variant(name)
    assert known == found


def test_a_variant_with_five_levels_takes_one_preset(monkeypatch: pytest.MonkeyPatch):
    released = PRESETS["t2v-1024"]
    unet = {**released.unet, "channel_mult": (1, 2, 3, 4, 4), "attention_resolutions": (8, 4, 2)}
    monkeypatch.setattr(variants, "PRESETS", {**PRESETS, "five": replace(released, name="five", unet=unet)})
    model = official_variant("five")
    found = official_model_from_shapes(official_shapes(model), signal_scale(released.signal_scale).float())
    assert found == model
    assert found.unet["attention_levels"] == (1, 2, 3)
    assert matching_preset(found) == "five"


def test_the_first_stage_is_the_network_that_is_started_from_stable_diffusion():
    model = official_variant("t2v-256")
    assert model is not None
    assert (model.unet["temporal_convolution"], model.unet["image_cross_attention"]) == (True, False)
    assert model.image_encoder is None


def test_other_names_are_no_variant():
    assert official_variant("tiny-t2v") is None
    assert official_variant("nowhere") is None
