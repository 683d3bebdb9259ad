"""Compute the noise schedule's buffers of an official checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor

from videocrafter.checkpoints.official.official_model import NUM_TRAIN_TIMESTEPS, SIGNAL_SCALE_KEY, OfficialModel
from videocrafter.diffusion.schedule import alphas_cumprod, linear_betas, signal_scale

# Lower bound for the variance of the first step, which is 0.
_SMALLEST_VARIANCE = 1e-20


def schedule_buffers(model: OfficialModel) -> dict[str, Tensor]:
    """Return every buffer of the noise schedule by key, in float32.

    They are computed in double precision and rounded once, so they match a checkpoint up to the last bit of float32.
    """
    betas = linear_betas(NUM_TRAIN_TIMESTEPS)
    alphas = 1 - betas
    product = alphas_cumprod(betas)
    previous = torch.cat([torch.ones(1, dtype=torch.float64), product[:-1]])
    variance = betas * (1 - previous) / (1 - product)
    buffers = {
        "betas": betas,
        "alphas_cumprod": product,
        "alphas_cumprod_prev": previous,
        "sqrt_alphas_cumprod": product.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - product).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - product).log(),
        "sqrt_recip_alphas_cumprod": (1 / product).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / product - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=_SMALLEST_VARIANCE).log(),
        "posterior_mean_coef1": betas * previous.sqrt() / (1 - product),
        "posterior_mean_coef2": (1 - previous) * alphas.sqrt() / (1 - product),
    }
    if model.signal_scale is not None and model.signal_scale_length is not None:
        buffers[SIGNAL_SCALE_KEY] = signal_scale(model.signal_scale, model.signal_scale_length)
    return {key: buffer.float() for key, buffer in buffers.items()}
