"""The training objective: adding noise to a clean latent, the prediction target, and the loss.

Everything here is variance preserving: ``x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps``. A
signal-scaled model trains with the ``alpha_bar'`` of :func:`schedule.vp_change_of_variables` and scales its own
input.

Shape suffix: ``B`` batch. Latents are ``[B, ...]`` (usually ``B C T H W``); ``alphas_cumprod_B`` holds the
``alpha_bar`` of each sample's own timestep, in single precision or better.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

PredictionType = Literal["epsilon", "v_prediction"]


def add_noise(x0: Tensor, noise: Tensor, alphas_cumprod_B: Tensor) -> Tensor:
    """Add noise to a clean latent: ``sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise``, shaped like ``x0``."""
    signal, sigma = _signal_and_noise_levels(x0, alphas_cumprod_B)
    return signal * x0 + sigma * noise


def target(x0: Tensor, noise: Tensor, alphas_cumprod_B: Tensor, prediction_type: PredictionType) -> Tensor:
    """Return the prediction target: the noise (``epsilon``, as in the paper) or the velocity (``v_prediction``).

    The velocity ``sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0`` stays informative in pure noise, where the noise
    itself is trivial to predict (Salimans & Ho 2022, section 4). Raises ValueError for any other type.
    """
    _check_prediction_type(prediction_type)
    if prediction_type == "epsilon":
        return noise
    signal, sigma = _signal_and_noise_levels(x0, alphas_cumprod_B)
    return signal * noise - sigma * x0


def predicted_x0_and_noise(
    prediction: Tensor, noisy: Tensor, alphas_cumprod_B: Tensor, prediction_type: PredictionType
) -> tuple[Tensor, Tensor]:
    """Return the clean latent and the noise that a prediction implies for ``noisy``; the inverse of :func:`target`.

    With ``epsilon`` the clean latent is undefined in pure noise (``alpha_bar`` 0), which raises ValueError.
    """
    _check_prediction_type(prediction_type)
    signal, sigma = _signal_and_noise_levels(noisy, alphas_cumprod_B)
    if prediction_type == "v_prediction":
        return signal * noisy - sigma * prediction, signal * prediction + sigma * noisy
    # Tensors without content, on which plans compute, have no values to look at.
    if not alphas_cumprod_B.is_meta and bool((alphas_cumprod_B <= 0).any()):
        raise ValueError(
            "a noise prediction does not determine the clean latent where alpha_bar is 0; use v_prediction "
            "with a schedule that ends in pure noise"
        )
    return (noisy - sigma * prediction) / signal, prediction


def diffusion_loss(
    prediction: Tensor, x0: Tensor, noise: Tensor, alphas_cumprod_B: Tensor, prediction_type: PredictionType
) -> Tensor:
    """Return the mean squared error of each sample, ``[B]`` in float32.

    There is no weight per timestep: the paper's simple loss. With ``v_prediction`` this equals a weight of SNR + 1 on
    the error of the clean latent. Multiply by :func:`min_snr_weights` for another weighting.
    """
    wanted = target(x0, noise, alphas_cumprod_B, prediction_type)
    return nn.functional.mse_loss(prediction.float(), wanted.float(), reduction="none").flatten(1).mean(dim=1)


def min_snr_weights(alphas_cumprod_B: Tensor, gamma: float, prediction_type: PredictionType) -> Tensor:
    """Return the min-SNR-gamma weight of each sample's loss, ``[B]`` (Hang et al. 2023, section 3.4).

    The error of the clean latent is weighted by ``min(SNR, gamma)`` with ``SNR = alpha_bar / (1 - alpha_bar)``.
    A squared error of the noise is SNR times that of the clean latent, one of the velocity SNR + 1 times, so their
    weights are ``min(SNR, gamma) / SNR`` and ``min(SNR, gamma) / (SNR + 1)``. Both are written without the SNR
    itself, which is infinite without noise. In pure noise they are 1 and 0.

    For a signal-scaled model pass the same ``alpha_bar'`` as for the loss: its SNR is the one that the network sees.

    Raises:
        ValueError: gamma is not above 0, or the prediction type is unknown.
    """
    _check_prediction_type(prediction_type)
    if not gamma > 0:
        raise ValueError(f"gamma of min-SNR weighting is {gamma}; expected a number above 0")
    noise_B = 1 - alphas_cumprod_B
    if prediction_type == "v_prediction":
        return torch.minimum(alphas_cumprod_B, gamma * noise_B)
    return (gamma * noise_B / alphas_cumprod_B).clamp(max=1.0)


def _signal_and_noise_levels(like: Tensor, alphas_cumprod_B: Tensor) -> tuple[Tensor, Tensor]:
    # Take the roots before the conversion to the dtype of the latent: half precision would lose 1 - alpha_bar.
    shape = (-1, *[1] * (like.ndim - 1))
    abar_B = alphas_cumprod_B.to(like.device)
    signal, sigma = abar_B.sqrt(), (1 - abar_B).sqrt()
    return signal.to(like).reshape(shape), sigma.to(like).reshape(shape)


def _check_prediction_type(prediction_type: str) -> None:
    allowed = get_args(PredictionType)
    if prediction_type not in allowed:
        raise ValueError(f"prediction_type must be one of {', '.join(allowed)}, but is {prediction_type!r}")
