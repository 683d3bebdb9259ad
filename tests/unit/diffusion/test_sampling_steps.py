"""Any stock scheduler on a schedule that ends in pure noise, with a model that is exact for N(MEAN, STD^2)."""

from typing import Any

import diffusers
import pytest
import torch
from benchmarks.samplers import STOCK
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler
from torch import Tensor

from videocrafter.diffusion.sampling_steps import SamplingSteps
from videocrafter.diffusion.schedule import alphas_cumprod, cosine_betas_shifted
from videocrafter.diffusion.schedulers import build_scheduler

MEAN, STD = 0.7, 0.8
BETAS = cosine_betas_shifted(1000, 36)
ABAR = alphas_cumprod(BETAS)
CONFIG = dict(
    DDIMScheduler(
        trained_betas=BETAS.tolist(),
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
    ).config
)
KARRAS = {"use_karras_sigmas": True}


def stock(name: str, **changes: Any) -> Any:
    return getattr(diffusers, name).from_config(CONFIG, **changes)


def exact(sample: Tensor, timestep: Tensor) -> Tensor:
    """The best velocity at a timestep."""
    below = int(timestep)
    log_snr = torch.log(ABAR / (1 - ABAR))
    weight = float(timestep) - below
    level = log_snr[below] if weight == 0 else torch.lerp(log_snr[below], log_snr[below + 1], weight)
    abar = torch.sigmoid(level)
    signal, sigma = abar.sqrt(), (1 - abar).sqrt()
    clean = MEAN + STD**2 * signal * (sample - signal * MEAN) / (STD**2 * abar + 1 - abar)
    noise = (sample - signal * clean) / sigma
    return (signal * noise - sigma * clean).to(sample.dtype)


def sample(scheduler: Any, num_steps: int, noise: Tensor) -> Tensor:
    steps = SamplingSteps(scheduler, num_steps)
    latents = steps.start(noise)
    for index, timestep in enumerate(steps.timesteps):
        prediction = exact(steps.scale_model_input(latents, index), timestep)
        latents = steps.step(prediction, index, latents, {})
    return latents


CASES = [
    *((name, {"skip_prk_steps": True} if name == "PNDMScheduler" else {}) for name in STOCK),
    ("DPMSolverMultistepScheduler", KARRAS),
    ("EulerDiscreteScheduler", KARRAS),
    ("HeunDiscreteScheduler", KARRAS),
    ("EulerDiscreteScheduler", {"timestep_spacing": "linspace"}),
    ("EulerDiscreteScheduler", {"rescale_betas_zero_snr": True}),
]


@pytest.mark.filterwarnings("ignore:invalid value")  # diffusers, when it builds Karras steps up to pure noise
@pytest.mark.parametrize(("name", "changes"), CASES, ids=[f"{name}-{len(changes)}" for name, changes in CASES])
def test_every_stock_scheduler_samples_from_pure_noise_in_any_number_of_steps(name, changes) -> None:
    noise = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    scheduler, ddim_scheduler = stock(name, **changes), stock("DDIMScheduler")
    for num_steps in (2, 4, 12):
        torch.manual_seed(0)
        result, ddim = sample(scheduler, num_steps, noise), sample(ddim_scheduler, num_steps, noise)
        assert result.mean() == pytest.approx(MEAN, abs=0.12 if name == "PNDMScheduler" else 0.02 + 0.02 / num_steps)
        # Few steps blur. Steps evenly spaced in time blur most.
        assert 0.7 * ddim.std() - 0.1 < result.std() < 1.15 * STD


@pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "KDPM2DiscreteScheduler"])
def test_the_first_step_is_that_of_ddim_and_the_others_are_at_the_usual_timesteps(name) -> None:
    noise = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    steps, ddim = SamplingSteps(stock(name), 10), SamplingSteps(stock("DDIMScheduler"), 10)
    prediction = exact(noise, steps.timesteps[0])
    after = steps.step(prediction, 0, steps.start(noise), {})
    expected = ddim.step(prediction, 0, noise, {"eta": 0.0})
    torch.testing.assert_close(steps.scale_model_input(after, 1), expected, rtol=1e-3, atol=1e-3)
    assert steps.num_steps == 10
    assert set(map(int, ddim.timesteps)) <= set(map(int, steps.timesteps))


def test_a_start_in_the_middle_skips_the_step_from_pure_noise() -> None:
    clean, noise = torch.full((1, 50), 0.3), torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    whole = SamplingSteps(stock("HeunDiscreteScheduler"), 10)
    assert torch.equal(whole.add_noise(clean, noise), noise)
    later = SamplingSteps(stock("HeunDiscreteScheduler"), 10, first_step=4)
    assert later.timesteps == whole.timesteps[later.num_skipped :]
    assert later.num_skipped == 1 + 3 * 2
    abar = ABAR[int(later.timesteps[0])]
    noisy = later.scale_model_input(later.add_noise(clean, noise), 0)
    torch.testing.assert_close(noisy, (abar.sqrt() * clean + (1 - abar).sqrt() * noise).float(), rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="at least one of 10 steps, but is 10"):
        SamplingSteps(stock("HeunDiscreteScheduler"), 10, first_step=10)


def test_samplers_that_start_from_pure_noise_take_their_own_first_step() -> None:
    for name in ("ddim", "ddpm", "dpm++2m", "dpm++2m-lu", "dpm++2m-sde", "unipc", "euler", "euler-a", "deis", "lcm"):
        scheduler = build_scheduler(name, CONFIG)
        steps = SamplingSteps(scheduler, 4)
        scheduler.set_timesteps(4)
        assert torch.equal(torch.stack(steps.timesteps), scheduler.timesteps)
        noise = torch.ones(1, 3)
        assert torch.equal(steps.start(noise), noise * scheduler.init_noise_sigma)


def test_a_model_that_predicts_noise_never_divides_by_zero() -> None:
    noise = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    for name in ("DDIMScheduler", "HeunDiscreteScheduler", "EulerDiscreteScheduler"):
        steps = SamplingSteps(stock(name, prediction_type="epsilon"), 3)
        latents = steps.start(noise)
        for index in range(len(steps.timesteps)):
            latents = steps.step(steps.scale_model_input(latents, index), index, latents, {})
        assert torch.isfinite(latents).all()


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (lambda: diffusers.FlowMatchEulerDiscreteScheduler(), "does not sample models with a noise schedule"),
        (lambda: stock("IPNDMScheduler"), "does not sample models with a noise schedule"),
        (lambda: diffusers.RePaintScheduler(), "steps need model_output, timestep, sample, original_image, mask"),
        (lambda: stock("CogVideoXDPMScheduler"), "made for another pipeline"),
        (lambda: stock("CogVideoXDDIMScheduler"), "changes the model's noise schedule"),
        (lambda: stock("UnCLIPScheduler"), "changes the model's noise schedule"),
        (lambda: stock("DPMSolverMultistepInverseScheduler"), "turns videos into noise"),
        (lambda: stock("DDIMInverseScheduler"), "has no add_noise"),
        (lambda: stock("PNDMScheduler"), "PNDMScheduler cannot sample in so few"),
    ],
)
def test_schedulers_that_cannot_sample_the_model_are_refused_with_one_that_can(scheduler, message) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingSteps(scheduler(), 3)


def test_clipping_for_pixels_is_off_unless_its_range_was_chosen() -> None:
    assert not SamplingSteps(DDPMScheduler(), 4).scheduler.config.clip_sample
    assert SamplingSteps(DDPMScheduler(clip_sample_range=6.0), 4).scheduler.config.clip_sample


def test_the_given_scheduler_is_never_changed() -> None:
    scheduler = EulerDiscreteScheduler()
    scheduler.set_timesteps(5)
    before = scheduler.timesteps
    first, second = SamplingSteps(scheduler, 3), SamplingSteps(scheduler, 7)
    noise = torch.ones(1, 4)
    for index in range(3):
        first.step(first.scale_model_input(noise, index), index, noise, {})
    assert scheduler.timesteps is before
    assert scheduler.step_index is None
    assert (first.scheduler.step_index, second.scheduler.step_index) == (3, None)
