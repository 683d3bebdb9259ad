import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from videocrafter.diffusion.schedule import (
    alphas_cumprod,
    linear_betas,
    signal_scale,
    vp_change_of_variables,
)
from videocrafter.pipelines.denoising import Conditions, denoise

NOISE = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(1))


class FakeUNet:
    """Answers with a known function of what it is told, and remembers every call."""

    def __init__(self, dtype=torch.float32):
        self.dtype = dtype
        self.calls = []

    def __call__(self, sample, timestep, text, fps=None, image=None, image_scale=1.0):
        self.calls.append((sample, timestep, text, fps, image, image_scale))
        return 0.1 * sample + text.mean(dim=(1, 2))[:, None, None, None, None]


def conditions(value, image=None):
    return Conditions(text=torch.full((2, 5, 6), value), fps=torch.tensor([4.0, 8.0]), image=image)


def run(unet, scheduler=None, uncond=None, cond=None, **settings):
    arguments = {
        "num_inference_steps": 3,
        "generators": [torch.Generator().manual_seed(s) for s in (1, 2)],
        **settings,
    }
    scheduler = scheduler or DDIMScheduler(clip_sample=False)
    return denoise(unet, scheduler, NOISE, cond or conditions(0.5), uncond, **arguments)


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


def test_without_unconditional_branch_the_network_sees_each_video_once():
    unet = FakeUNet()
    run(unet)
    assert unet.calls[0][0].shape[0] == 2


def test_guidance_goes_from_the_unconditional_to_the_conditional_and_beyond():
    # The fake's answer is linear in the text, so guidance w between a and b equals the text a + w (b - a).
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
    first = int(scheduler.timesteps[0])
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


def test_values_that_are_not_finite_stop_the_run():
    class Broken(FakeUNet):
        def __call__(self, sample, *rest):
            return sample * float("nan")

    with pytest.raises(FloatingPointError, match="not finite"):
        run(Broken())
