from types import SimpleNamespace

import torch
from diffusers import DDIMScheduler

from videocrafter.evaluation.model_identity import describe_model


def described(betas: list[float]) -> dict:
    model = SimpleNamespace(
        components={"layer": torch.nn.Linear(2, 2)},
        scheduler=DDIMScheduler(num_train_timesteps=len(betas), trained_betas=betas),
    )
    return describe_model(model)["scheduler"]


def test_a_noise_schedule_is_told_apart_without_its_betas_in_the_report() -> None:
    one, other = described([0.1, 0.2, 0.3]), described([0.1, 0.2, 0.4])
    assert "trained_betas" not in one
    assert one["trained_betas_sha256"] != other["trained_betas_sha256"]
    assert one == described([0.1, 0.2, 0.3])
