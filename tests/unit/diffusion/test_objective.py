import pytest
import torch
from diffusers import DDIMScheduler

from videocrafter.diffusion.objective import (
    PredictionType,
    add_noise,
    diffusion_loss,
    min_snr_weights,
    predicted_x0_and_noise,
    target,
)
from videocrafter.diffusion.schedule import (
    alphas_cumprod,
    cosine_betas_shifted,
    linear_betas,
    signal_scale,
    vp_change_of_variables,
)

SHAPE = (3, 4, 2, 5, 5)


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(SHAPE, generator=generator), torch.randn(SHAPE, generator=generator)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_conversions_invert(pair, prediction_type: PredictionType) -> None:
    x0, noise = pair
    abar = alphas_cumprod(linear_betas())[[0, 400, 999]]
    noisy = add_noise(x0, noise, abar)
    wanted = target(x0, noise, abar, prediction_type)
    got_x0, got_noise = predicted_x0_and_noise(wanted, noisy, abar, prediction_type)
    torch.testing.assert_close(got_x0, x0, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got_noise, noise, rtol=1e-5, atol=1e-5)


def test_agrees_with_the_stock_scheduler(pair) -> None:
    x0, noise = pair
    stock = DDIMScheduler(trained_betas=cosine_betas_shifted(1000, 16).tolist())
    timesteps = torch.tensor([0, 500, 999])
    abar = stock.alphas_cumprod[timesteps]
    torch.testing.assert_close(add_noise(x0, noise, abar), stock.add_noise(x0, noise, timesteps))
    velocity = stock.get_velocity(x0, noise, timesteps)
    torch.testing.assert_close(target(x0, noise, abar, "v_prediction"), velocity)


def test_velocity_at_pure_noise_is_the_negative_clean_latent(pair) -> None:
    x0, noise = pair
    abar = torch.zeros(3)
    assert torch.equal(add_noise(x0, noise, abar), noise)
    assert torch.equal(target(x0, noise, abar, "v_prediction"), -x0)
    recovered, _ = predicted_x0_and_noise(-x0, noise, abar, "v_prediction")
    assert torch.equal(recovered, x0)
    with pytest.raises(ValueError, match="v_prediction"):
        predicted_x0_and_noise(noise, noise, abar, "epsilon")


def test_loss_is_per_sample_and_float32(pair) -> None:
    x0, noise = pair
    abar = torch.tensor([0.9, 0.5, 0.1])
    prediction = target(x0, noise, abar, "v_prediction")
    prediction[1] += 2.0
    loss = diffusion_loss(prediction, x0, noise, abar, "v_prediction")
    torch.testing.assert_close(loss, torch.tensor([0.0, 4.0, 0.0]))
    half = diffusion_loss(prediction.bfloat16(), x0, noise, abar, "v_prediction")
    assert half.dtype == torch.float32


def test_half_precision_latents_keep_the_noise_level(pair) -> None:
    """1 - alpha_bar of the first step rounds to 0.0010 in bfloat16 arithmetic; the level must not."""
    x0 = torch.zeros(SHAPE, dtype=torch.bfloat16)
    noise = torch.ones(SHAPE, dtype=torch.bfloat16)
    abar = torch.full((3,), 1 - 0.00085)
    assert add_noise(x0, noise, abar).float().mean().item() == pytest.approx(0.00085**0.5, rel=4e-3)


def test_unknown_prediction_type_is_named(pair) -> None:
    with pytest.raises(ValueError, match=r"epsilon, v_prediction.*'sample'"):
        target(*pair, torch.full((3,), 0.5), "sample")  # type: ignore[arg-type]


# alpha_bar 0.9, 0.5, 0.1: SNR 9, 1, 1/9. With gamma 5 only the first is cut off.
@pytest.mark.parametrize(
    ("prediction_type", "gamma", "expected"),
    [
        ("epsilon", 5.0, [5 / 9, 1.0, 1.0]),
        ("epsilon", 0.5, [0.5 / 9, 0.5, 1.0]),
        ("v_prediction", 5.0, [5 / 10, 1 / 2, (1 / 9) / (10 / 9)]),
        ("v_prediction", 0.5, [0.5 / 10, 0.5 / 2, 0.1]),
    ],
)
def test_min_snr_weights_by_hand(prediction_type: PredictionType, gamma: float, expected: list[float]) -> None:
    weights = min_snr_weights(torch.tensor([0.9, 0.5, 0.1]), gamma, prediction_type)
    torch.testing.assert_close(weights, torch.tensor(expected))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_min_snr_weighs_the_clean_latents_error_by_the_clipped_snr(pair, prediction_type: PredictionType) -> None:
    """The definition: the weighted loss is min(SNR, gamma) times the squared error of x_0, for both predictions."""
    x0, noise = pair
    abar = torch.tensor([0.97, 0.8, 0.2], dtype=torch.float64)
    noisy = add_noise(x0, noise, abar)
    prediction = target(x0, noise, abar, prediction_type) + 0.1 * torch.randn_like(x0)
    got_x0, _ = predicted_x0_and_noise(prediction, noisy, abar, prediction_type)
    errors = (got_x0 - x0).square().flatten(1).mean(dim=1)
    loss = diffusion_loss(prediction, x0, noise, abar, prediction_type) * min_snr_weights(abar, 5.0, prediction_type)
    torch.testing.assert_close(loss, (abar / (1 - abar)).clamp(max=5.0) * errors, rtol=1e-4, atol=1e-6)


def test_min_snr_weights_are_finite_without_noise_and_without_signal() -> None:
    ends = torch.tensor([1.0, 0.0])
    assert min_snr_weights(ends, 5.0, "epsilon").tolist() == [0.0, 1.0]
    assert min_snr_weights(ends, 5.0, "v_prediction").tolist() == [0.0, 0.0]


def test_min_snr_of_a_scaled_schedule_is_that_of_the_scaled_latents() -> None:
    """The network sees s_t x_0, so SNR is s_t^2 alpha_bar / (1 - alpha_bar)."""
    abar, scale = alphas_cumprod(linear_betas()), signal_scale(0.3)
    betas = torch.tensor(vp_change_of_variables(abar, scale).trained_betas, dtype=torch.float64)
    weights = min_snr_weights(alphas_cumprod(betas), 5.0, "epsilon")
    snr = scale.double().square() * abar / (1 - abar)
    torch.testing.assert_close(weights, snr.clamp(max=5.0) / snr, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, -1.0, float("nan")])
def test_min_snr_gamma_must_be_positive(gamma: float) -> None:
    with pytest.raises(ValueError, match="expected a number above 0"):
        min_snr_weights(torch.tensor([0.5]), gamma, "epsilon")
