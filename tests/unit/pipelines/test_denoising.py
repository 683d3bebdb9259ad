import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler

from videocrafter.diffusion.sampling_steps import SamplingSteps
from videocrafter.diffusion.schedule import (
    alphas_cumprod,
    linear_betas,
    signal_scale,
    vp_change_of_variables,
)
from videocrafter.diffusion.schedulers import SCHEDULERS, build_scheduler
from videocrafter.pipelines.denoising import Conditions, denoise
from videocrafter.pipelines.sampling_settings import SETTING_NAMES, SamplingSettings, given_settings

NOISE = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(1))


class FakeUNet:
    """Returns a known function of its conditions and records every call."""

    def __init__(self, dtype=torch.float32):
        self.dtype = dtype
        self.calls = []

    def __call__(self, sample, timestep, text, fps=None, image=None, image_scale=1.0, temporal=True):
        self.calls.append((sample, timestep, text, fps, image, image_scale))
        answer = 0.1 * sample + text.mean(dim=(1, 2))[:, None, None, None, None]
        if image is not None:
            answer = answer + image.mean(dim=(1, 2))[:, None, None, None, None]
        return answer + 0.01 * sample.roll(1, 2) if temporal else answer


def conditions(value, image=None):
    return Conditions(text=torch.full((2, 5, 6), value), fps=torch.tensor([4.0, 8.0]), image=image)


def run(unet, scheduler=None, uncond=None, cond=None, noise=NOISE, first_step=0, **settings):
    sampling = SamplingSettings(**given_settings({"num_inference_steps": 3, **settings}))
    others = {name: value for name, value in settings.items() if name not in SETTING_NAMES}
    generators = [torch.Generator().manual_seed(s) for s in (1, 2)]
    scheduler = scheduler or DDIMScheduler(clip_sample=False)
    steps = SamplingSteps(scheduler, sampling.num_inference_steps, first_step=first_step)
    return denoise(
        unet,
        steps,
        steps.start(noise) if first_step == 0 else noise,
        cond or conditions(0.5),
        uncond,
        sampling,
        generators=generators,
        **others,
    )


def test_both_branches_go_through_the_network_in_one_call_with_the_same_fps():
    unet = FakeUNet()
    run(unet, uncond=conditions(-0.5), guidance_scale=3.0)
    assert len(unet.calls) == 3
    sample, timestep, text, fps, _, _ = unet.calls[0]
    assert sample.shape[0] == 4
    assert timestep.shape == (4,)
    torch.testing.assert_close(fps, torch.tensor([4.0, 8.0, 4.0, 8.0]))
    assert text[:2].mean() == -0.5
    assert text[2:].mean() == 0.5


class TakesBranches(FakeUNet):
    takes_branches = True

    def __call__(self, sample, timestep, text, fps=None, *others, **options):
        self.calls.append((sample, timestep, text, fps))
        repeats = len(text) // len(sample)
        recorded, self.calls = self.calls, []
        fps = fps.repeat(len(text) // len(fps))
        answer = super().__call__(torch.cat([sample] * repeats), timestep, text, fps, *others, **options)
        self.calls = recorded
        return answer


def test_a_network_that_takes_branches_gets_each_video_once():
    unet = TakesBranches()
    result = run(unet, uncond=conditions(-0.5), guidance_scale=3.0)
    torch.testing.assert_close(result, run(FakeUNet(), uncond=conditions(-0.5), guidance_scale=3.0))
    sample, timestep, text, fps = unet.calls[0]
    assert (len(sample), len(timestep), len(text), len(fps)) == (2, 2, 4, 2)


def test_branches_with_different_fps_go_in_one_batch():
    unet = TakesBranches()
    other = Conditions(text=conditions(-0.5).text, fps=torch.tensor([5.0, 8.0]))
    run(unet, uncond=other, guidance_scale=3.0)
    sample, _, text, fps = unet.calls[0]
    assert (len(sample), len(text), fps.tolist()) == (4, 4, [5.0, 8.0, 4.0, 8.0])


def test_without_unconditional_branch_the_network_sees_each_video_once():
    unet = FakeUNet()
    run(unet)
    assert unet.calls[0][0].shape[0] == 2


def test_guidance_goes_from_the_unconditional_to_the_conditional_and_beyond():
    # The fake's output is linear in the text, so guidance w between a and b equals the text a + w (b - a).
    guided = run(FakeUNet(), uncond=conditions(-0.5), guidance_scale=3.0)
    equal = run(FakeUNet(), cond=conditions(-0.5 + 3.0 * 1.0))
    torch.testing.assert_close(guided, equal)


def test_guidance_rescale_brings_the_prediction_back_to_the_conditional_spread():
    seen = []

    class Spy(DDIMScheduler):
        def step(self, model_output, *args, **kwargs):
            seen.append(model_output)
            return super().step(model_output, *args, **kwargs)

    class Scaling(FakeUNet):
        def __call__(self, sample, timestep, text, *rest):
            super().__call__(sample, timestep, text, *rest)
            return sample * text.mean(dim=(1, 2))[:, None, None, None, None]

    run(
        Scaling(),
        Spy(clip_sample=False),
        uncond=conditions(1.0),
        cond=conditions(2.0),
        guidance_scale=7.0,
        guidance_rescale=1.0,
        num_inference_steps=1,
    )
    torch.testing.assert_close(seen[0].std(dim=(1, 2, 3, 4)), (2.0 * NOISE).std(dim=(1, 2, 3, 4)))


def test_image_tokens_and_scale_reach_the_network():
    unet = FakeUNet()
    image, nothing = torch.ones(2, 3, 6), torch.zeros(2, 3, 6)
    run(
        unet,
        cond=conditions(0.5, image),
        uncond=conditions(0.0, nothing),
        guidance_scale=2.0,
        image_scale=0.3,
    )
    torch.testing.assert_close(unet.calls[0][4], torch.cat([nothing, image]))
    assert unet.calls[0][5] == 0.3


def test_branches_with_different_parts_are_refused():
    with pytest.raises(ValueError, match="same parts"):
        run(FakeUNet(), cond=conditions(0.5, torch.ones(2, 3, 6)), uncond=conditions(0.0))


def test_signal_scaled_model_sees_the_scaled_input():
    scale = vp_change_of_variables(alphas_cumprod(linear_betas()), signal_scale(0.3))
    scheduler = DDIMScheduler(trained_betas=scale.trained_betas, clip_sample=False)
    unet = FakeUNet()
    run(unet, scheduler, input_scale=scale.input_scale, num_inference_steps=2)
    first = int(unet.calls[0][1][0])
    torch.testing.assert_close(unet.calls[0][0], NOISE * scale.input_scale[first].float())


def test_sigma_space_schedulers_get_their_own_noise_level():
    unet = FakeUNet()
    scheduler = EulerDiscreteScheduler()
    run(unet, scheduler)
    assert unet.calls[0][0].std() == pytest.approx(float(NOISE.std()), rel=0.05)


def test_callback_sees_every_step_and_may_change_the_latents():
    steps = []

    def on_step(index, timestep, latents):
        steps.append((index, int(timestep)))
        return torch.zeros_like(latents) if index == 2 else None

    result = run(FakeUNet(), on_step=on_step)
    assert [index for index, _ in steps] == [0, 1, 2]
    assert steps[0][1] > steps[1][1] > steps[2][1]
    assert not result.any()


def test_network_runs_in_its_own_precision_and_latents_stay_float32():
    unet = FakeUNet()
    half = Conditions(text=torch.zeros(2, 5, 6, dtype=torch.bfloat16), fps=torch.tensor([4.0, 8.0]))
    result = run(unet, cond=half)
    assert unet.calls[0][0].dtype == torch.bfloat16
    assert unet.calls[0][3].dtype == torch.float32
    assert result.dtype == torch.float32


def test_outside_of_its_interval_guidance_costs_nothing():
    unet = FakeUNet()
    settings = {"num_inference_steps": 4, "guidance_scale": 3.0, "temporal_guidance_scale": 1.0}
    run(unet, uncond=conditions(-0.5), guidance_interval=(0.25, 0.75), **settings)
    assert [call[0].shape[0] for call in unet.calls] == [2, 4, 2, 4, 2, 2]
    everywhere = run(FakeUNet(), uncond=conditions(-0.5), **settings)
    late = run(FakeUNet(), uncond=conditions(-0.5), guidance_interval=(0.5, 1.0), **settings)
    assert (everywhere - late).abs().max() > 1e-2


def test_text_and_image_have_scales_of_their_own():
    # The fake's output is linear in text and image: none + 2 (image - none) + 5 (both - image).
    picture, nothing = torch.full((2, 3, 6), 0.4), torch.full((2, 3, 6), 0.1)
    unet = FakeUNet()
    guided = run(
        unet,
        cond=conditions(0.5, picture),
        uncond=conditions(-0.5, nothing),
        guidance_scale=5.0,
        image_guidance_scale=2.0,
    )
    assert [call[0].shape[0] for call in unet.calls] == [6, 6, 6]
    torch.testing.assert_close(unet.calls[0][4], torch.cat([nothing, picture, picture]))
    torch.testing.assert_close(unet.calls[0][2].mean(dim=(1, 2)), torch.tensor([-0.5, -0.5, -0.5, -0.5, 0.5, 0.5]))
    equal = run(FakeUNet(), cond=conditions(-0.5 + 5 * 1.0, torch.full((2, 3, 6), 0.1 + 2 * 0.3)))
    torch.testing.assert_close(guided, equal)


@pytest.mark.parametrize(("image_scale", "branches"), [(1.0, 2), (5.0, 2), (None, 2), (0.0, 3)])
def test_branches_that_would_cancel_are_not_computed(image_scale, branches):
    picture, nothing = torch.full((2, 3, 6), 0.4), torch.full((2, 3, 6), 0.1)
    unet = FakeUNet()
    cond, uncond = conditions(0.5, picture), conditions(-0.5, nothing)
    guided = run(unet, cond=cond, uncond=uncond, guidance_scale=5.0, image_guidance_scale=image_scale)
    assert unet.calls[0][0].shape[0] == branches * 2
    weight = 5.0 if image_scale is None else image_scale
    equal = run(FakeUNet(), cond=conditions(4.5, torch.full((2, 3, 6), 0.1 + weight * 0.3)))
    torch.testing.assert_close(guided, equal)


def test_temporal_guidance_moves_away_from_each_frame_alone():
    seen = []

    class Spy(DDIMScheduler):
        def step(self, model_output, *args, **kwargs):
            seen.append(model_output)
            return super().step(model_output, *args, **kwargs)

    for scale in (0.0, 2.0):
        run(FakeUNet(), Spy(clip_sample=False), temporal_guidance_scale=scale, num_inference_steps=1)
    # The fake's temporal part is 0.01 times the previous frame.
    torch.testing.assert_close(seen[1] - seen[0], 2.0 * 0.01 * NOISE.roll(1, 2))


def test_a_single_frame_has_no_temporal_guidance():
    unet = FakeUNet()
    run(unet, noise=NOISE[:, :, :1], num_inference_steps=2, temporal_guidance_scale=2.0)
    assert len(unet.calls) == 2


def vp_config(prediction_type):
    betas = vp_change_of_variables(alphas_cumprod(linear_betas()), signal_scale(0.7)).trained_betas
    return {"trained_betas": betas, "prediction_type": prediction_type, "clip_sample": False}


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "ddim-official"])
def test_the_estimate_is_the_clean_latent_whatever_the_scheduler(name, prediction_type):
    clean = torch.full_like(NOISE, 0.3)
    scheduler = build_scheduler(name, vp_config(prediction_type))
    level = scheduler.alphas_cumprod.double()

    class Knowing(FakeUNet):
        """Predicts that the clean latent is 0.3 everywhere."""

        def __call__(self, sample, timestep, text, *rest):
            signal, sigma = level[int(timestep[0])].sqrt(), (1 - level[int(timestep[0])]).sqrt()
            noise = (sample - signal * clean) / sigma
            return (noise if prediction_type == "epsilon" else signal * noise - sigma * clean).float()

    estimates = []
    run(Knowing(), scheduler, on_estimate=lambda index, estimate: estimates.append((index, estimate)))
    assert [index for index, _ in estimates] == list(range(len(SamplingSteps(scheduler, 3).timesteps)))
    for _, estimate in estimates:
        torch.testing.assert_close(estimate, clean, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    "scheduler", [DDIMScheduler(clip_sample=False), HeunDiscreteScheduler()], ids=["ddim", "heun"]
)
def test_a_start_in_the_middle_goes_the_rest_of_the_way(scheduler):
    kept = []
    whole = run(FakeUNet(), scheduler, num_inference_steps=5, on_step=lambda *step: kept.append(step[2]))
    order = scheduler.order
    unet = FakeUNet()
    rest = run(unet, scheduler, noise=kept[2 * order - 1], num_inference_steps=5, first_step=2)
    assert len(unet.calls) == len(kept) - 2 * order
    torch.testing.assert_close(rest, whole)
    with pytest.raises(ValueError, match="at least one of 5 steps"):
        run(unet, scheduler, num_inference_steps=5, first_step=5)


def test_values_that_are_not_finite_stop_the_run():
    class Broken(FakeUNet):
        def __call__(self, sample, *rest):
            return sample * float("nan")

    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        run(Broken())


def test_an_interval_of_noise_levels_means_the_same_for_every_number_of_steps():
    levels = DDIMScheduler(clip_sample=False).alphas_cumprod
    for count in (4, 10):
        unet = FakeUNet()
        run(
            unet, uncond=conditions(-0.5), num_inference_steps=count, guidance_scale=3.0, guidance_log_snr=(-2.0, 1.0)
        )
        for sample, timestep, *_ in unet.calls:
            level = levels[int(timestep[0])].double()
            guided = -2.0 <= float(torch.logit(level)) < 1.0
            assert len(sample) == (4 if guided else 2)
        assert {len(call[0]) for call in unet.calls} == {2, 4}
