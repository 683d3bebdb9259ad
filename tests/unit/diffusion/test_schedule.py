import json
import math

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from videocrafter.diffusion.schedule import (
    alphas_cumprod,
    betas_from_alphas_cumprod,
    cosine_betas_shifted,
    linear_betas,
    scale_model_input,
    signal_scale,
    vp_change_of_variables,
    zero_terminal_snr_betas,
)


def test_linear_betas_are_stable_diffusions() -> None:
    stock = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    torch.testing.assert_close(linear_betas().float(), stock.betas, rtol=1e-6, atol=0)
    # Known value for this schedule: the last SNR is 0.0047 per element.
    assert alphas_cumprod(linear_betas())[-1].item() == pytest.approx(0.00466, rel=1e-3)


@pytest.mark.parametrize("scale", [1.0, 0.7, 0.3])
def test_change_of_variables_survives_float32_and_json(scale: float) -> None:
    abar = alphas_cumprod(linear_betas())
    signal = abar * signal_scale(scale) ** 2
    wanted = signal / (signal + 1 - abar)
    change = vp_change_of_variables(abar, signal_scale(scale))
    reached = DDIMScheduler(trained_betas=json.loads(json.dumps(change.trained_betas))).alphas_cumprod.double()
    assert ((reached - wanted) / wanted).abs().max() < 1.2e-7
    # Betas computed in float64 alone are an order of magnitude worse.
    before = torch.cat([torch.ones(1, dtype=torch.float64), wanted[:-1]])
    naive = DDIMScheduler(trained_betas=(1 - wanted / before).tolist()).alphas_cumprod.double()
    assert ((naive - wanted) / wanted).abs().max() > 5e-7


@pytest.mark.parametrize("scale", [1.0, 0.7, 0.3])
def test_change_of_variables_is_the_same_process(scale: float) -> None:
    abar, s = alphas_cumprod(linear_betas()), signal_scale(scale)
    change = vp_change_of_variables(abar, s)
    vp = alphas_cumprod(torch.tensor(change.trained_betas, dtype=torch.float64))
    torch.testing.assert_close(change.input_scale * vp.sqrt(), abar.sqrt() * s, rtol=1e-6, atol=0)
    torch.testing.assert_close(change.input_scale * (1 - vp).sqrt(), (1 - abar).sqrt(), rtol=3e-5, atol=1e-6)
    betas = torch.tensor(change.trained_betas)
    assert betas.min() > 0
    assert betas.max() < 1


@settings(max_examples=30, deadline=None)
@given(b=st.floats(0.05, 1.0), steps=st.integers(2, 1500))
def test_betas_are_valid_for_every_scale_and_length(b: float, steps: int) -> None:
    change = vp_change_of_variables(alphas_cumprod(linear_betas(steps)), signal_scale(b, steps))
    assert len(change.trained_betas) == len(change.input_scale) == steps
    assert all(0 < beta < 1 for beta in change.trained_betas)


def test_signal_scale_ramps_over_400_steps() -> None:
    s = signal_scale(0.3)
    assert s[0] == 1
    assert s[399].item() == pytest.approx(0.3)
    assert (s[400:] == 0.3).all()
    assert s[200].item() == pytest.approx(1 - 0.7 * 200 / 399)


@pytest.mark.parametrize("shift", [1.0, 16.0, 36.0])
def test_cosine_schedule_ends_in_pure_noise(shift: float) -> None:
    stock = DDIMScheduler(trained_betas=cosine_betas_shifted(1000, shift).tolist())
    assert stock.alphas_cumprod[-1].item() == 0.0
    assert (stock.alphas_cumprod[1:] < stock.alphas_cumprod[:-1]).all()
    middle = stock.alphas_cumprod[499].double()
    assert (middle / (1 - middle)).item() == pytest.approx(1 / shift, rel=1e-5)
    open_end = alphas_cumprod(cosine_betas_shifted(1000, shift, zero_terminal=False))[-1].item()
    assert open_end == pytest.approx(math.cos(math.pi / 2 * 0.9995) ** 2 / shift, rel=1e-3)


def test_input_scale_is_interpolated_between_timesteps() -> None:
    scale = torch.tensor([1.0, 2.0, 4.0])
    x = torch.ones(2, 1, 3, dtype=torch.float16)
    scaled = scale_model_input(x, torch.tensor([0.5, 2.0]), scale)
    assert scaled.dtype == torch.float16
    torch.testing.assert_close(scaled[:, 0, 0].float(), torch.tensor([1.5, 4.0]))
    torch.testing.assert_close(scale_model_input(x, 1, scale), 2 * x)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"start is 0\.5"):
        linear_betas(start=0.5, end=0.1)
    with pytest.raises(ValueError, match=r"above 0 and at most 1.*is 1\.5"):
        signal_scale(1.5)
    with pytest.raises(ValueError, match="snr_shift"):
        cosine_betas_shifted(1000, 0.0)
    with pytest.raises(ValueError, match="strictly decreasing"):
        betas_from_alphas_cumprod(torch.tensor([0.5, 0.6]))
    with pytest.raises(ValueError, match=r"\(10,\).*\(20,\)"):
        vp_change_of_variables(alphas_cumprod(linear_betas(10)), signal_scale(1.0, 20))
    with pytest.raises(ValueError, match="at least 2"):
        linear_betas(1)


@pytest.mark.parametrize("b", [1.0, 0.3])
def test_a_schedule_stretched_to_zero_snr_begins_where_it_began(b: float) -> None:
    change = vp_change_of_variables(alphas_cumprod(linear_betas()), signal_scale(b))
    before = alphas_cumprod(torch.tensor(change.trained_betas, dtype=torch.float64))
    after = alphas_cumprod(zero_terminal_snr_betas(before))
    assert after[-1] == 0
    assert after[0] == pytest.approx(float(before[0]), rel=1e-6)
    assert bool((after[1:] < after[:-1]).all())
    # The root of alpha_bar changes linearly, so the ratios of its differences stay the same.
    steps_before, steps_after = before.sqrt().diff(), after.sqrt().diff()
    torch.testing.assert_close(
        steps_after / steps_after.sum(), steps_before / steps_before.sum(), rtol=1e-3, atol=1e-6
    )


def test_a_schedule_that_ends_in_pure_noise_stays_as_it_is() -> None:
    before = alphas_cumprod(cosine_betas_shifted(snr_shift=4.0))
    torch.testing.assert_close(alphas_cumprod(zero_terminal_snr_betas(before)), before, rtol=1e-6, atol=1e-7)
