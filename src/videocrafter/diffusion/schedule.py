"""Noise schedules, and the change of variables that makes a signal-scaled checkpoint variance preserving.

Shape suffixes: ``S`` training timesteps (usually 1000), ``B`` batch.

Schedules are computed in float64 on the CPU. A schedule is passed to a sampler as ``trained_betas`` in the
scheduler's config, from which every stock scheduler computes cumulative products with float32 alphas.
:func:`betas_from_alphas_cumprod` chooses betas for which that round trip loses no precision.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PAPER_BETA_START = 0.00085
PAPER_BETA_END = 0.012
SIGNAL_SCALE_RAMP = 400


def linear_betas(
    num_train_timesteps: int = 1000, start: float = PAPER_BETA_START, end: float = PAPER_BETA_END
) -> Tensor:
    """Return the paper's schedule, linear in the square root of beta (``scaled_linear`` in diffusers).

    Returns float64 betas ``[S]``. Raises ValueError unless ``0 < start <= end < 1`` and there is a timestep.
    """
    _check_num_timesteps(num_train_timesteps)
    if not 0 < start <= end < 1:
        raise ValueError(f"betas need 0 < start <= end < 1, but start is {start} and end is {end}")
    return torch.linspace(math.sqrt(start), math.sqrt(end), num_train_timesteps, dtype=torch.float64) ** 2


def alphas_cumprod(betas: Tensor) -> Tensor:
    """Return ``alpha_bar_t``, the product of ``1 - beta`` up to and including t: betas ``[S]`` to float64 ``[S]``."""
    return torch.cumprod(1 - betas.double(), dim=0)


def cosine_betas_shifted(
    num_train_timesteps: int = 1000, snr_shift: float = 1.0, zero_terminal: bool = True
) -> Tensor:
    """Return a cosine schedule with its signal-to-noise ratio divided by ``snr_shift``: the miniature's schedule.

    The same noise hides less of a small latent than of a large one, so small models need more noise. With
    ``zero_terminal`` the last step is pure noise (``alpha_bar`` exactly 0), which needs v-prediction and a sampler
    that starts at the last step (``timestep_spacing="trailing"``). Without it the last step has the SNR of a point
    half a step before the end.

    Returns float64 betas ``[S]`` that survive float32 (see :func:`betas_from_alphas_cumprod`). Raises
    ValueError for a shift that is not positive.
    """
    _check_num_timesteps(num_train_timesteps)
    if not (snr_shift > 0 and math.isfinite(snr_shift)):
        raise ValueError(f"snr_shift must be above 0, but is {snr_shift}")
    end = 1.0 if zero_terminal else 1.0 - 0.5 / num_train_timesteps
    time_S = torch.linspace(1 / num_train_timesteps, end, num_train_timesteps, dtype=torch.float64)
    signal_S = torch.cos(0.5 * math.pi * time_S) ** 2
    noise_S = torch.sin(0.5 * math.pi * time_S) ** 2 * snr_shift
    abar_S = signal_S / (signal_S + noise_S)
    if zero_terminal:
        abar_S[-1] = 0.0
    return betas_from_alphas_cumprod(abar_S)


def betas_from_alphas_cumprod(alphas_cumprod_S: Tensor) -> Tensor:
    """Return betas whose float32 cumulative product equals ``alphas_cumprod_S`` to float32 precision.

    Stock schedulers round betas and alphas to float32 before they multiply, so betas that are only correct in float64
    drift by about 1e-6 over a thousand steps. Here each beta is computed from the product that the scheduler will
    have reached, so that each step corrects the rounding of the previous one: the error stays below 1e-7. The values
    are exact in float32 and, as decimal numbers, in a JSON config.

    Takes ``alpha_bar`` ``[S]``, strictly decreasing from below 1 (the last may be 0). Returns float64 ``[S]`` in
    ``[0, 1]``. Raises ValueError for any other sequence.
    """
    abar_S = alphas_cumprod_S.double().cpu()
    previous_S = torch.cat([torch.ones(1, dtype=torch.float64), abar_S[:-1]])
    if abar_S.ndim != 1 or not bool(((abar_S < previous_S) & (abar_S >= 0)).all()):
        raise ValueError(
            "alphas_cumprod must be a strictly decreasing sequence of values below 1 and at least 0, but has shape "
            f"{tuple(abar_S.shape)} and values from {abar_S.flatten()[0]} to {abar_S.flatten()[-1]}"
        )
    betas = []
    reached = 1.0
    for wanted in abar_S.tolist():  # Python floats: zero-dimensional tensors take ten times as long
        beta = np.float32(max(0.0, 1.0 - wanted / reached))
        betas.append(float(beta))
        reached *= float(np.float32(1.0) - beta)
    return torch.tensor(betas, dtype=torch.float64)


def zero_terminal_snr_betas(alphas_cumprod_S: Tensor) -> Tensor:
    """Return the betas of the same schedule, stretched so that its last step is pure noise.

    ``sqrt(alpha_bar)`` is shifted to end at 0 and scaled to keep its first value (Lin et al. 2023, "Common diffusion
    noise schedules and sample steps are flawed", algorithm 1). A schedule that already ends in pure noise is
    unchanged. Takes ``alpha_bar`` ``[S]`` and returns float64 ``[S]``.
    """
    signal_S = alphas_cumprod_S.double().sqrt()
    first, last = signal_S[0].clone(), signal_S[-1].clone()
    signal_S = (signal_S - last) * first / (first - last)
    return betas_from_alphas_cumprod(signal_S**2)


def signal_scale(b: float, num_train_timesteps: int = 1000, ramp: int = SIGNAL_SCALE_RAMP) -> Tensor:
    """Return ``s_t``, the factor on the clean latent in scaled checkpoints: from 1 to ``b`` in ``ramp`` steps.

    Returns float64 ``[S]``; ``b = 1`` means no scaling. Raises ValueError unless ``0 < b <= 1``.
    """
    _check_num_timesteps(num_train_timesteps)
    if not 0 < b <= 1:
        raise ValueError(f"the signal scale b must be above 0 and at most 1 (1 means no scaling), but is {b}")
    scale_S = torch.full((max(num_train_timesteps, ramp),), b, dtype=torch.float64)
    scale_S[:ramp] = torch.linspace(1.0, b, ramp, dtype=torch.float64)
    return scale_S[:num_train_timesteps]


class ChangeOfVariables(NamedTuple):
    """A signal-scaled model in variance-preserving variables; see :func:`vp_change_of_variables`."""

    trained_betas: list[float]
    """Betas of ``alpha_bar'``, for the config of any diffusers scheduler."""
    input_scale: Tensor
    """``n_t``, float64 ``[S]``: factor on the sampler's latent to get the input of the network."""

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float) -> Tensor:
        """Return ``sample * n_t``; see :func:`scale_model_input`."""
        return scale_model_input(sample, timestep, self.input_scale)


def vp_change_of_variables(alphas_cumprod_S: Tensor, scale_S: Tensor) -> ChangeOfVariables:
    """Turn a signal-scaled schedule into a variance-preserving one with the same noise target.

    A scaled checkpoint was trained on ``x_t = a_t x_0 + sigma_t eps`` with ``a_t = sqrt(alpha_bar_t) s_t`` and
    ``sigma_t = sqrt(1 - alpha_bar_t)``, whose squares do not add up to 1. Divide by
    ``n_t = sqrt(a_t^2 + sigma_t^2)`` and they do: ``x_t / n_t = sqrt(alpha_bar'_t) x_0 +
    sqrt(1 - alpha_bar'_t) eps`` with ``alpha_bar'_t = a_t^2 / n_t^2`` and the same ``eps``. A stock scheduler with
    the betas of ``alpha_bar'`` therefore samples ``x_t / n_t``, and the input of the network is that times ``n_t``.
    The signal-to-noise ratio of ``alpha_bar'`` is ``s_t^2`` times the original one; both decrease, so the betas are
    valid for every ``b``.

    Both arguments are ``[S]``. Raises ValueError if their shapes differ.
    """
    if alphas_cumprod_S.shape != scale_S.shape:
        raise ValueError(
            f"the schedule has shape {tuple(alphas_cumprod_S.shape)}, but the signal scale has "
            f"{tuple(scale_S.shape)}; both need one value per training timestep"
        )
    abar_S, scale_S = alphas_cumprod_S.double(), scale_S.double()
    norm_squared_S = abar_S * scale_S**2 + (1 - abar_S)
    betas_S = betas_from_alphas_cumprod(abar_S * scale_S**2 / norm_squared_S)
    return ChangeOfVariables(trained_betas=betas_S.tolist(), input_scale=norm_squared_S.sqrt())


def scale_model_input(sample: Tensor, timestep: Tensor | float, input_scale_S: Tensor) -> Tensor:
    """Multiply a variance-preserving latent by ``n_t`` to get the input of a signal-scaled network.

    ``sample`` is ``[B, ...]``; ``timestep`` is a number, a 0-d tensor or ``[B]``, in ``[0, S - 1]``. It may be
    fractional, because some solvers evaluate between training timesteps; ``n_t`` is then interpolated. Keeps the
    dtype and device of the sample.
    """
    # float32 at least, but not always float64, which some accelerators do not support.
    precision = torch.promote_types(sample.dtype, torch.float32)
    time_B = torch.as_tensor(timestep, device=sample.device).to(precision).reshape(-1)
    scale_S = input_scale_S.to(device=sample.device, dtype=precision)
    below_B = time_B.floor().long()
    above_B = (below_B + 1).clamp(max=len(scale_S) - 1)
    scale_B = torch.lerp(scale_S[below_B], scale_S[above_B], time_B - below_B)
    return sample * scale_B.to(sample.dtype).reshape(-1, *[1] * (sample.ndim - 1))


def _check_num_timesteps(num_train_timesteps: int) -> None:
    if num_train_timesteps < 2:
        raise ValueError(f"num_train_timesteps must be at least 2, but is {num_train_timesteps}")
