"""The signal-scaled noising and the time steps against numbers of the official implementation."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from videocrafter.diffusion.ddim import OfficialDDIMScheduler
from videocrafter.diffusion.objective import add_noise
from videocrafter.diffusion.schedule import (
    alphas_cumprod,
    linear_betas,
    scale_model_input,
    signal_scale,
    vp_change_of_variables,
)

DATA = Path(__file__).parent / "data"
SPEC = json.loads((DATA / "i2v_512_v1.json").read_text(encoding="utf-8"))
EXPECTED = load_file(DATA / "i2v_512_v1.safetensors")


def draw(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    state = np.random.RandomState(zlib.crc32(f"{SPEC['seed']}:{name}".encode()))
    return torch.from_numpy(state.standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("case", ["q_sample", "q_sample2"])
def test_noising_then_input_scaling_is_the_official_noising(case: str) -> None:
    shape = (2, 4, 4, *SPEC["dims"]["latent"])
    timesteps = EXPECTED[f"{case}.timestep"]
    change = vp_change_of_variables(alphas_cumprod(linear_betas()), signal_scale(SPEC["official_config"]["scale_b"]))
    vp_abar = alphas_cumprod(torch.tensor(change.trained_betas, dtype=torch.float64))
    noisy = add_noise(draw("x0", shape), draw("noise", shape), vp_abar[timesteps])
    got = scale_model_input(noisy, timesteps, change.input_scale)
    wanted = EXPECTED[f"{case}.noisy"]
    assert ((got - wanted).abs().max() / wanted.std()).item() < 1e-6


@pytest.mark.parametrize("case", SPEC["cases"], ids=lambda case: f"{case['steps']} steps")
def test_time_steps(case: dict) -> None:
    scheduler = OfficialDDIMScheduler()
    scheduler.set_timesteps(case["steps"])
    assert scheduler.timesteps.flip(0).tolist() == EXPECTED[f"ddim.{case['ddim']}.timesteps"].tolist()
