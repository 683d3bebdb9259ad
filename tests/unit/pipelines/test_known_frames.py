import pytest
import torch

from videocrafter.diffusion.sampling_steps import SamplingSteps
from videocrafter.diffusion.schedule import (
    alphas_cumprod,
    linear_betas,
    scale_model_input,
    signal_scale,
    vp_change_of_variables,
)
from videocrafter.diffusion.schedulers import SCHEDULERS, build_scheduler
from videocrafter.pipelines.denoising import Conditions, denoise
from videocrafter.pipelines.known_frames import KnownFrames
from videocrafter.pipelines.sampling_settings import SamplingSettings

NUM_STEPS = 6
SCALES = vp_change_of_variables(alphas_cumprod(linear_betas()), signal_scale(0.7))
CONDITIONS = Conditions(text=torch.zeros(2, 5, 6), fps=torch.tensor([8.0, 8.0]))


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


CLEAN, NOISE = draw(1, 2, 4, 5, 2, 2), draw(2, 2, 4, 5, 2, 2)


def scaled_scheduler(name):
    """A scheduler for a signal-scaled model, which is the harder case."""
    config = {"trained_betas": SCALES.trained_betas, "prediction_type": "epsilon", "num_train_timesteps": 1000}
    return build_scheduler(name, config, signal_scale=0.7)


class Oracle:
    """Knows the clean latents of all frames; predicts exactly the noise in the sample."""

    def __init__(self, scheduler, clean):
        self.abar = scheduler.alphas_cumprod.double()
        self.clean = clean
        self.found = []

    def __call__(self, sample, timestep, *_):
        time = timestep[0].double()
        below = int(time)
        abar = torch.lerp(self.abar[below], self.abar[min(below + 1, 999)], time - below)
        latents = sample / scale_model_input(torch.ones(1, dtype=torch.float64), time, SCALES.input_scale)
        noise = ((latents - abar.sqrt() * self.clean) / (1 - abar).sqrt()).float()
        self.found.append(noise)
        return noise


def sample(unet, steps, start, **settings):
    return denoise(
        unet,
        steps,
        start,
        CONDITIONS,
        None,
        SamplingSettings(num_inference_steps=NUM_STEPS),
        input_scale=SCALES.input_scale,
        generators=[torch.Generator().manual_seed(seed) for seed in (3, 4)],
        **settings,
    )


# Steps even in log SNR have rounded timesteps, so the oracle's noise level is slightly off.
TOLERANCE = {"dpm++2m-lu": 0.1}
# These end at the lowest noise level of the schedule, not at 0.
ENDS_IN_NOISE = {"ddim-official": 0.2, "deis": 0.2}


@pytest.mark.parametrize("first_step", [0, 1, 4, 5])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_sampling_starts_anywhere_with_exactly_the_noise_that_was_added(name, first_step):
    scheduler = scaled_scheduler(name)
    oracle = Oracle(scheduler, CLEAN)
    steps = SamplingSteps(scheduler, NUM_STEPS, first_step=first_step)
    result = sample(oracle, steps, steps.add_noise(CLEAN, NOISE))
    torch.testing.assert_close(oracle.found[0], NOISE, rtol=0, atol=TOLERANCE.get(name, 2e-3))
    torch.testing.assert_close(result, CLEAN, rtol=0, atol=ENDS_IN_NOISE.get(name, 2e-3))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_known_frames_are_seen_at_every_step_level_and_kept(name):
    scheduler = scaled_scheduler(name)
    steps = SamplingSteps(scheduler, NUM_STEPS)
    known = KnownFrames(steps, CLEAN[:, :, [0, 4]], (0, 4), NOISE)
    seen = Oracle(scheduler, CLEAN)

    def wrong(*arguments):
        seen(*arguments)
        return torch.full_like(NOISE, 0.3)

    result = sample(
        wrong,
        steps,
        known.start,
        on_step=lambda index, _, latents: known.after_step(index, latents),
    )
    assert torch.equal(result[:, :, [0, 4]], CLEAN[:, :, [0, 4]])
    assert (result[:, :, 1:4] - CLEAN[:, :, 1:4]).abs().max() > 0.1
    assert len(seen.found) == len(steps.timesteps)
    for noise in seen.found:
        torch.testing.assert_close(noise[:, :, [0, 4]], NOISE[:, :, [0, 4]], rtol=0, atol=TOLERANCE.get(name, 2e-3))


def test_the_other_frames_start_as_they_are():
    steps = SamplingSteps(scaled_scheduler("euler"), NUM_STEPS)
    start = KnownFrames(steps, CLEAN[:, :, :2], (0, 1), NOISE).start
    assert torch.equal(start[:, :, 2:], steps.start(NOISE)[:, :, 2:])
    assert torch.equal(start[:, :, :2], steps.add_noise(CLEAN[:, :, :2], NOISE[:, :, :2]))
    assert not torch.equal(start[:, :, :2], steps.start(NOISE)[:, :, :2])
