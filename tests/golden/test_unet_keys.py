"""The key map against every key that the official checkpoints hold, at their full size."""

import gzip
import json

import pytest
import torch

from tests.golden.official_numbers import DATA, VARIANTS, OfficialNumbers
from videocrafter.checkpoints.unet_config import unet_config_from_official
from videocrafter.checkpoints.unet_keys import (
    OFFICIAL_PREFIX,
    to_official_state,
    to_own_state,
    unet_keys,
)
from videocrafter.models.unet import VideoUNet

FULL_SIZE = {
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_head_channels": 64,
    "context_dim": 1024,
    "temporal_length": 16,
}


@pytest.fixture(scope="module", params=VARIANTS)
def official(request: pytest.FixtureRequest) -> OfficialNumbers:
    return OfficialNumbers(request.param)


def test_the_full_size_keys_load_strictly(official: OfficialNumbers) -> None:
    all_keys = json.loads(gzip.decompress((DATA / "official_keys.json.gz").read_bytes()))[official.variant]
    with torch.device("meta"):
        model = VideoUNet(**unet_config_from_official({**official.unet_params, **FULL_SIZE}))
        checkpoint = {key: torch.empty(shape) for key, (shape, _) in all_keys.items()}
    pairs = unet_keys(model.config)
    model.load_state_dict(to_own_state(checkpoint, pairs), assign=True)
    back = to_official_state(model.state_dict(), pairs)
    wanted = {key: value.shape for key, value in checkpoint.items() if key.startswith(OFFICIAL_PREFIX)}
    assert {key: value.shape for key, value in back.items()} == wanted


def test_there_and_back_changes_no_bit(official: OfficialNumbers) -> None:
    pairs = unet_keys(unet_config_from_official(official.unet_params))
    weights = official.weights(OFFICIAL_PREFIX)
    back = to_official_state(to_own_state(weights, pairs), pairs)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key], weights[key]) for key in weights)
