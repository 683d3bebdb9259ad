"""Schedules that end in pure noise, and the samplers that cannot start there.

In pure noise (``alpha_bar`` 0) the signal-to-noise ratio is 0. Samplers that divide by the signal level then compute
with infinity. There are three kinds of them:

- The DDIM family, DDPM and the consistency samplers never divide by the signal level of the start.
- Euler and the multistep solvers divide by it, but their first step is of first order, so a tiny signal level is
  enough: the last ``alpha_bar`` is raised to 2^-24, as diffusers does for its own zero-SNR option. The noise level is
  then 4096, which a network cannot distinguish from pure noise.
- All others look at both ends of their first step, or choose their steps between the highest and the lowest noise
  level. With an end at infinity or 4096 they extrapolate across it and give noise. `SamplingSteps` takes the first
  step for them, which is exact: in pure noise every sampler of first order does the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMParallelScheduler,
    DDIMScheduler,
    DDPMParallelScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)

from videocrafter.diffusion.schedule import alphas_cumprod

SMALLEST_ALPHA_BAR = 2.0**-24

_AT_ZERO = (
    CogVideoXDDIMScheduler,
    DDIMParallelScheduler,
    DDIMScheduler,
    DDPMParallelScheduler,
    DDPMScheduler,
    LCMScheduler,
    TCDScheduler,
)
_AT_SMALLEST = (
    *_AT_ZERO,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
_BETWEEN_EXTREMES = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
"""Settings that choose the steps between the highest and the lowest noise level."""
_ROUNDING = 1.001  # of products in float32


def ends_in_pure_noise(scheduler: Any) -> bool:
    """Return whether a scheduler's last ``alpha_bar`` is 0, or at most `SMALLEST_ALPHA_BAR`."""
    return float(scheduler.alphas_cumprod[-1]) <= SMALLEST_ALPHA_BAR * _ROUNDING


def starts_at_zero(scheduler_class: type) -> bool:
    """Return whether samplers of this class start from an ``alpha_bar`` of exactly 0."""
    return issubclass(scheduler_class, _AT_ZERO)


def starts_near_zero(scheduler: Any) -> bool:
    """Return whether a sampler, with its settings, starts from an ``alpha_bar`` of `SMALLEST_ALPHA_BAR`."""
    between = any(scheduler.config.get(name) for name in _BETWEEN_EXTREMES)
    return isinstance(scheduler, _AT_SMALLEST) and not between


def end_above_pure_noise(betas: Sequence[float]) -> list[float]:
    """Raise a last ``alpha_bar`` of 0 to 2^-24, or to less if that would not be a decrease; return the betas."""
    abar_S = alphas_cumprod(torch.tensor(betas, dtype=torch.float64))
    if abar_S[-1] > 0:
        return list(betas)
    smallest = min(SMALLEST_ALPHA_BAR, float(abar_S[-2]) / 2)
    return [*betas[:-1], 1 - smallest / float(abar_S[-2])]


def with_betas(scheduler: Any, betas: Sequence[float], **changes: Any) -> Any:
    """Return a scheduler of the same class and settings for another noise schedule, with `changes` to its config.

    The betas are taken as they are, also if the config asks for a schedule that is rescaled to end in pure noise.
    """
    accepted = inspect.signature(type(scheduler).__init__).parameters
    settings = {**scheduler.config, **changes, "trained_betas": list(betas), "num_train_timesteps": len(betas)}
    settings["rescale_betas_zero_snr"] = False
    return type(scheduler)(**{name: value for name, value in settings.items() if name in accepted})
