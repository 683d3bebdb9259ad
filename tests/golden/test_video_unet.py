"""VideoUNet, its key map and the sampler against numbers of the official implementation, every variant."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.golden.official_numbers import VARIANTS, OfficialNumbers, relative_error
from videocrafter.checkpoints.unet_config import unet_config_from_official
from videocrafter.checkpoints.unet_keys import OFFICIAL_PREFIX, to_own_state, unet_keys
from videocrafter.diffusion.ddim import OfficialDDIMScheduler
from videocrafter.diffusion.objective import add_noise
from videocrafter.diffusion.schedule import (
    ChangeOfVariables,
    alphas_cumprod,
    linear_betas,
    signal_scale,
    vp_change_of_variables,
)
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.denoising import Conditions, denoise


@pytest.fixture(scope="module", params=VARIANTS)
def official(request: pytest.FixtureRequest) -> OfficialNumbers:
    return OfficialNumbers(request.param)


@pytest.fixture(scope="module")
def unet(official: OfficialNumbers) -> VideoUNet:
    model = VideoUNet(**unet_config_from_official(official.unet_params)).eval().requires_grad_(False)
    model.load_state_dict(to_own_state(official.weights(OFFICIAL_PREFIX), unet_keys(model.config)))
    return model


@pytest.fixture(scope="module")
def change(official: OfficialNumbers) -> ChangeOfVariables:
    return vp_change_of_variables(alphas_cumprod(linear_betas()), signal_scale(official.scale))


# Eight frames, five, and one: the official network runs its temporal layers on a single frame too. With
# gradients switched on, attention on a CPU takes another way.
@pytest.mark.parametrize("case", [0, 1, 2])
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
def test_network(official: OfficialNumbers, unet: VideoUNet, case: int, grad: bool) -> None:
    expected = official.expected
    wanted = expected[f"unet.{case}.output"]
    sample = official.draw(f"unet_x{case}", wanted.shape)
    with torch.set_grad_enabled(grad):
        got = unet(
            sample,
            expected[f"unet.{case}.timestep"],
            expected["text.embedding"],
            expected[f"unet.{case}.fps"],
            expected.get("image.tokens"),
        )
    assert relative_error(got, wanted) < 1e-4


@pytest.mark.parametrize("case", ["q_sample", "q_sample2"])
def test_noising_then_input_scaling(official: OfficialNumbers, change: ChangeOfVariables, case: str) -> None:
    shape = (2, 4, 4, *official.latent_size)
    timesteps = official.expected[f"{case}.timestep"]
    vp_abar = alphas_cumprod(torch.tensor(change.trained_betas, dtype=torch.float64))
    noisy = add_noise(official.draw("x0", shape), official.draw("noise", shape), vp_abar[timesteps])
    got = change.scale_model_input(noisy, timesteps)
    assert relative_error(got, official.expected[f"{case}.noisy"]) < 1e-5


class GivenNoise(OfficialDDIMScheduler):
    """The official sampler with the noise of each step given instead of drawn."""

    noises: list[Tensor]

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, eta: float, return_dict: bool) -> Any:
        noise = self.noises.pop(0)
        return super().step(
            model_output,
            timestep,
            sample,
            eta=eta,
            variance_noise=noise if eta > 0 else None,
            return_dict=return_dict,
        )


@pytest.mark.parametrize("run", [0, 1, 2])
def test_sampling(official: OfficialNumbers, unet: VideoUNet, change: ChangeOfVariables, run: int) -> None:
    case, expected = official.ddim_runs[run], official.expected
    shape = (2, 4, case["frames"], *official.latent_size)
    scheduler = GivenNoise(signal_scale=official.scale)
    scheduler.noises = [official.draw(f"ddim{run}_noise{n}", shape) for n in range(case["n_noises"])]
    scheduler.set_timesteps(case["steps"])
    fps = torch.full((2,), case["fps"])
    conditional = Conditions(text=expected["text.embedding"], fps=fps, image=expected.get("image.tokens"))
    unconditional = Conditions(text=expected["text.null_embedding"], fps=fps, image=expected.get("image.null_tokens"))
    # The official sampler starts at N(0, 1) in the variables of the scaled model.
    start = official.draw(f"xT{run}", shape) / float(change.input_scale[scheduler.timesteps[0]])
    with torch.no_grad():
        got = denoise(
            unet,
            scheduler,
            start,
            conditional,
            unconditional if case["guidance"] != 1.0 else None,
            num_inference_steps=case["steps"],
            guidance_scale=case["guidance"],
            eta=case["eta"],
            input_scale=change.input_scale,
            generators=[],
        )
    assert scheduler.noises == []
    assert relative_error(got, expected[f"ddim.{run}.latents"]) < 1e-4
