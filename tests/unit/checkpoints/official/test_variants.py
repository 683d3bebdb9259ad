from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from videocrafter.checkpoints.official.model import official_model_from_shapes
from videocrafter.checkpoints.official.variants import official_variant
from videocrafter.diffusion.schedule import signal_scale

KEYS = Path(__file__).parents[3] / "golden" / "data" / "official_keys.json.gz"
LISTED = {
    "t2v-512": ("t2v_512_v1", None),
    "t2v-512-early": ("t2v_512_v1_early", None),
    "t2v-1024": ("t2v_1024_v1", 0.3),
    "i2v-512": ("i2v_512_v1", 0.7),
    "vc2-t2v-512": ("t2v_512_v2", 0.7),
}


@pytest.mark.parametrize("name", LISTED)
def test_a_variant_is_what_its_checkpoint_says(name: str):
    listed, scale = LISTED[name]
    shapes = {key: tuple(shape) for key, (shape, _) in json.loads(gzip.decompress(KEYS.read_bytes()))[listed].items()}
    length = shapes.get("scale_arr", (0,))[0]
    found = official_model_from_shapes(shapes, signal_scale(scale or 0.7, length).float() if length else None)
    known = official_variant(name)
    assert known is not None
    for part in ("unet", "vae", "text_encoder", "image_encoder", "image_projector"):
        assert getattr(known, part) == getattr(found, part), part


def test_the_first_stage_is_the_network_that_is_started_from_stable_diffusion():
    model = official_variant("t2v-256")
    assert model is not None
    assert (model.unet["temporal_convolution"], model.unet["image_cross_attention"]) == (True, False)
    assert model.image_encoder is None


def test_other_names_are_no_variant():
    assert official_variant("tiny-t2v") is None
    assert official_variant("nowhere") is None
