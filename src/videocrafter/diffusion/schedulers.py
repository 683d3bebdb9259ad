"""Samplers by name: which diffusers scheduler each is, and what it needs to run on any of our schedules.

Every model stores one scheduler config. Because ``trained_betas`` there are variance preserving (see
``schedule.vp_change_of_variables``), any stock scheduler built from that config samples the model rightly.

The config's time step spacing is kept by the DDIM family, whose official steps it describes. The others take
"trailing" steps, which start at the last training step: the multistep solvers of diffusers read "leading" so
that 20 of 1000 steps start at 940, and 200 at 800, where the latent is far from noise.

Some solvers divide by the signal level and cannot start from pure noise. For those, and only if the schedule
ends there, the last ``alpha_bar`` is raised from 0 to 2^-24, as diffusers does for its own zero-SNR option: a
noise level of 4096, which no network can tell from pure noise.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from videocrafter.diffusion.ddim import OfficialDDIMScheduler
from videocrafter.diffusion.schedule import alphas_cumprod

SMALLEST_ALPHA_BAR = 2.0**-24


@dataclass(frozen=True, kw_only=True)
class SchedulerChoice:
    """A sampler that can be asked for by name."""

    scheduler_class: type[SchedulerMixin]
    summary: str
    """One line for a person who chooses."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What it changes in the model's scheduler config."""
    starts_from_pure_noise: bool = False
    """Whether it takes a schedule whose last ``alpha_bar`` is exactly 0 as it is."""


_FROM_LAST_STEP = {"timestep_spacing": "trailing"}
_DPM_2M = {**_FROM_LAST_STEP, "algorithm_type": "dpmsolver++", "solver_order": 2, "use_lu_lambdas": False}

# Stock DDIM, DDPM and LCM clip their predictions to [-1, 1] unless told not to: fit for pixels, not latents.
SCHEDULERS: Mapping[str, SchedulerChoice] = {
    "ddim": SchedulerChoice(
        scheduler_class=DDIMScheduler,
        summary="deterministic unless eta is above 0",
        changes={"clip_sample": False},
        starts_from_pure_noise=True,
    ),
    "ddim-official": SchedulerChoice(
        scheduler_class=OfficialDDIMScheduler,
        summary="DDIM with the official code's steps and variance, to repeat its numbers",
        starts_from_pure_noise=True,
    ),
    "ddpm": SchedulerChoice(
        scheduler_class=DDPMScheduler,
        summary="ancestral sampling; random, wants many steps",
        changes={"clip_sample": False},
        starts_from_pure_noise=True,
    ),
    "dpm++2m": SchedulerChoice(
        scheduler_class=DPMSolverMultistepScheduler,
        summary="second order, deterministic, good in 20 steps",
        changes=_DPM_2M,
    ),
    "dpm++2m-lu": SchedulerChoice(
        scheduler_class=DPMSolverMultistepScheduler,
        summary="dpm++2m with steps even in log SNR: keeps fine detail on schedules with much noise",
        changes={**_DPM_2M, "use_lu_lambdas": True},
    ),
    "dpm++2m-sde": SchedulerChoice(
        scheduler_class=DPMSolverMultistepScheduler,
        summary="dpm++2m with fresh noise at every step",
        changes={**_DPM_2M, "algorithm_type": "sde-dpmsolver++"},
    ),
    "unipc": SchedulerChoice(
        scheduler_class=UniPCMultistepScheduler,
        summary="predictor and corrector, deterministic, good in few steps",
        changes=_FROM_LAST_STEP,
    ),
    "euler": SchedulerChoice(
        scheduler_class=EulerDiscreteScheduler,
        summary="first order, deterministic",
        changes=_FROM_LAST_STEP,
    ),
    "euler-a": SchedulerChoice(
        scheduler_class=EulerAncestralDiscreteScheduler,
        summary="first order with fresh noise at every step",
        changes=_FROM_LAST_STEP,
    ),
    "deis": SchedulerChoice(
        scheduler_class=DEISMultistepScheduler,
        summary="exponential integrator, deterministic",
        changes=_FROM_LAST_STEP,
    ),
    "heun": SchedulerChoice(
        scheduler_class=HeunDiscreteScheduler,
        summary="second order; asks the network twice per step",
        changes=_FROM_LAST_STEP,
    ),
    "lcm": SchedulerChoice(
        scheduler_class=LCMScheduler,
        summary="1 to 8 steps, for models distilled with latent consistency only",
        changes={"clip_sample": False},
        starts_from_pure_noise=True,
    ),
}


def build_scheduler(name: str, base_config: Mapping[str, Any]) -> SchedulerMixin:
    """Build the scheduler called ``name`` for the model whose scheduler config is ``base_config``.

    Settings that the class does not know are left out; those it knows are kept, defaults of the class that
    wrote the config included (``from_config`` of diffusers drops these, which silently turns on clipping).
    ``ddim-official`` on a signal-scaled model needs the config's ``signal_scale``. Raises ValueError for an
    unknown name, with the nearest known ones.
    """
    if name not in SCHEDULERS:
        near = difflib.get_close_matches(name, SCHEDULERS, n=2, cutoff=0.4)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"unknown scheduler {name!r}.{hint} Known are: {', '.join(SCHEDULERS)}")
    choice = SCHEDULERS[name]
    accepted = set(inspect.signature(choice.scheduler_class.__init__).parameters) - {"self"}
    settings = {key: value for key, value in base_config.items() if key in accepted} | dict(choice.changes)
    betas = settings.get("trained_betas")
    if betas is not None and not choice.starts_from_pure_noise:
        settings["trained_betas"] = _end_above_pure_noise(betas)
    return choice.scheduler_class(**settings)


def _end_above_pure_noise(betas: list[float]) -> list[float]:
    """The same betas, except that a last ``alpha_bar`` of 0 becomes 2^-24, or less if that is no descent."""
    abar_S = alphas_cumprod(torch.tensor(betas, dtype=torch.float64))
    if abar_S[-1] > 0:
        return list(betas)
    smallest = min(SMALLEST_ALPHA_BAR, float(abar_S[-2]) / 2)
    return [*betas[:-1], 1 - smallest / float(abar_S[-2])]
