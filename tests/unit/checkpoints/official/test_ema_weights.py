import pytest
import torch

from videocrafter.checkpoints.checkpoint_file import CheckpointFileError
from videocrafter.checkpoints.official.ema_weights import ema_keys, with_ema_weights

KEY, EMA_KEY = "model.diffusion_model.out.2.weight", "model_ema.diffusion_modelout2weight"


def test_ema_weights_replace_the_weights_that_they_average():
    counters = {"model_ema.decay": torch.tensor(0.999), "model_ema.num_updates": torch.tensor(5)}
    tensors = {KEY: torch.zeros(2), "betas": torch.zeros(1), EMA_KEY: torch.ones(2), **counters}
    assert ema_keys(tensors) == {EMA_KEY: KEY}
    assert {key: value.tolist() for key, value in with_ema_weights(tensors).items()} == {KEY: [1, 1], "betas": [0]}


def test_missing_and_unmatched_ema_weights_are_refused():
    with pytest.raises(CheckpointFileError, match=r"has no EMA weights .*; omit --ema"):
        with_ema_weights({KEY: torch.zeros(2)})
    with pytest.raises(CheckpointFileError, match="1 EMA tensors match no weight"):
        with_ema_weights({KEY: torch.ones(1), EMA_KEY: torch.ones(1), "model_ema.strange": torch.ones(1)})
