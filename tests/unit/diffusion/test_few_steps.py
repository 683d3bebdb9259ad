import pytest
import torch
from diffusers import DDIMScheduler

from videocrafter.diffusion.few_steps import FewStepScheduler, few_step_times
from videocrafter.diffusion.sampling_steps import SamplingSteps
from videocrafter.diffusion.schedule import (
    alphas_cumprod,
    cosine_betas_shifted,
    linear_betas,
    signal_scale,
    vp_change_of_variables,
)

MINIATURE = cosine_betas_shifted(1000, 36)


def few_steps(**changes: object) -> FewStepScheduler:
    given = {"trained_betas": MINIATURE.tolist(), "prediction_type": "v_prediction", **changes}
    return FewStepScheduler(**given)


def steps_of(scheduler: FewStepScheduler, count: int) -> list[int]:
    scheduler.set_timesteps(count)
    return scheduler.timesteps.tolist()


def test_segments_begin_at_the_same_noise_whatever_the_schedule() -> None:
    scaled = vp_change_of_variables(alphas_cumprod(linear_betas()), signal_scale(0.3)).trained_betas
    for betas in (MINIATURE, linear_betas(), torch.tensor(scaled, dtype=torch.float64)):
        abar = alphas_cumprod(betas)
        last, *times = few_step_times(abar)
        assert last == 999
        snr = abar[times] / (1 - abar[times])
        torch.testing.assert_close(snr, torch.tensor([0.03, 0.5, 5.0], dtype=torch.float64), rtol=0.05, atol=0)
    assert few_step_times(alphas_cumprod(MINIATURE)) == (999, 487, 146, 46)
    with pytest.raises(ValueError, match="in ascending order"):
        few_step_times(alphas_cumprod(MINIATURE), (0.5, 0.5))


def test_other_numbers_of_steps_lie_between_the_trained_ones() -> None:
    scheduler = few_steps(few_step_times=[999, 500, 147, 47])
    assert steps_of(scheduler, 4) == [999, 500, 147, 47]
    assert steps_of(scheduler, 2) == [999, 147]
    assert steps_of(scheduler, 1) == [999]
    assert steps_of(scheduler, 8)[::2] == [999, 500, 147, 47]
    many = steps_of(scheduler, 1000)
    assert many == sorted(set(many), reverse=True)


def test_each_step_is_ddims_and_the_last_one_gives_the_clean_latent() -> None:
    """A model that knows the data: a single point. Its steps stay on the line to that point."""
    scheduler = few_steps()
    steps = SamplingSteps(scheduler, 4)
    data, noise = torch.full((1, 3), 2.0), torch.tensor([[0.5, -1.0, 3.0]])
    latents = steps.start(noise)
    for index, timestep in enumerate(steps.timesteps):
        abar = scheduler.alphas_cumprod[timestep]
        torch.testing.assert_close(latents, abar.sqrt() * data + (1 - abar).sqrt() * noise)
        latents = steps.step(abar.sqrt() * noise - (1 - abar).sqrt() * data, index, latents, {})
    torch.testing.assert_close(latents, data)


def test_its_config_survives_saving(tmp_path: object) -> None:
    scheduler = few_steps(few_step_times=[900, 300])
    scheduler.save_pretrained(tmp_path)
    loaded = FewStepScheduler.from_pretrained(tmp_path)
    assert loaded.times == (900, 300)
    torch.testing.assert_close(loaded.alphas_cumprod, scheduler.alphas_cumprod)


@pytest.mark.parametrize("times", [[], [100, 200], [1000, 5], [5, 5], [3, -1]])
def test_times_that_are_none_are_refused(times: list[int]) -> None:
    with pytest.raises(ValueError, match="expected descending timesteps below 1000"):
        few_steps(few_step_times=times)


def test_a_schedule_that_ends_in_pure_noise_stays_one() -> None:
    config = DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction").config
    assert float(FewStepScheduler.from_config(config).alphas_cumprod[-1]) == 0
    plain = DDIMScheduler(prediction_type="v_prediction").config
    assert float(FewStepScheduler.from_config(plain).alphas_cumprod[-1]) > 0
