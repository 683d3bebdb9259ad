"""Samplers by name: which diffusers scheduler each is, and what it needs to run on any of our schedules.

Every model stores one scheduler config. Because ``trained_betas`` there are variance preserving (see
``schedule.vp_change_of_variables``), any stock scheduler built from that config samples the model rightly.

The config's time step spacing is kept by the DDIM family, whose official steps it describes. The others take
"trailing" steps, which start at the last training step: the multistep solvers of diffusers read "leading" so
that 20 of 1000 steps start at 940, and 200 at 800, where the latent is far from noise. Another spacing, and a
schedule stretched to end in pure noise, can be asked for; what they mean stands in `SPACINGS` and in
`scheduler_notes`.

A caller with a loop of his own calls ``scheduler.set_begin_index(0)`` after ``set_timesteps``: the multistep
solvers else look a step up by its time, and with "dpm++2m-lu" several steps may have the same time.

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
from videocrafter.diffusion.schedule import alphas_cumprod, zero_terminal_snr_betas

SMALLEST_ALPHA_BAR = 2.0**-24

SPACINGS: Mapping[str, str] = {
    "legacy": "the official code's steps, of ddim-official only",
    "leading": "even steps upwards from the first training step; the last few are never visited",
    "trailing": "even steps downwards from the last training step; off-training for models that predict noise",
    "linspace": "the first and the last training step, and even steps between them",
}
"""Which training steps the sampling visits, each with one line for a person who chooses."""


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

# Schedulers whose steps do not follow `timestep_spacing`, and what their own are called.
_OWN_STEPS: Mapping[str, str | None] = {"ddim-official": "legacy", "dpm++2m-lu": "trailing", "lcm": None}

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


def build_scheduler(
    name: str,
    base_config: Mapping[str, Any],
    *,
    spacing: str | None = None,
    zero_terminal_snr: bool = False,
    signal_scale: float | None = None,
) -> SchedulerMixin:
    """Build the scheduler called ``name`` for the model whose scheduler config is ``base_config``.

    Settings that the class does not know are left out; those it knows are kept, defaults of the class that
    wrote the config included (``from_config`` of diffusers drops these, which silently turns on clipping).

    Args:
        spacing: one of `SPACINGS`; None for what the module's text says.
        zero_terminal_snr: stretch the schedule to end in pure noise; takes "trailing" steps unless told
            otherwise. Where a model predicts noise, which says nothing at the very end, or the solver cannot
            start there, it ends at an ``alpha_bar`` of 2^-24.
        signal_scale: b of a signal-scaled model. ``ddim-official`` needs it unless it stands in the config.

    Raises:
        ValueError: an unknown name, with the nearest known ones; a spacing that is unknown or that the
            scheduler does not have; zero terminal SNR with steps that never reach the end.
    """
    _check_known("scheduler", name, SCHEDULERS)
    if zero_terminal_snr and spacing is None:
        spacing = "trailing"
    _check_spacing(name, spacing, zero_terminal_snr)
    choice = SCHEDULERS[name]
    base = dict(base_config) if signal_scale is None else {**base_config, "signal_scale": signal_scale}
    accepted = set(inspect.signature(choice.scheduler_class.__init__).parameters) - {"self"}
    settings = {key: value for key, value in base.items() if key in accepted} | dict(choice.changes)
    if spacing is not None and "timestep_spacing" in accepted:
        settings["timestep_spacing"] = spacing
    if zero_terminal_snr:
        # Built once only to learn the betas of configs that describe them in other words.
        trained = choice.scheduler_class(**settings).alphas_cumprod
        settings["trained_betas"] = zero_terminal_snr_betas(trained).tolist()
    betas = settings.get("trained_betas")
    predicts_noise = settings.get("prediction_type", "epsilon") == "epsilon"
    if betas is not None and (not choice.starts_from_pure_noise or (zero_terminal_snr and predicts_noise)):
        settings["trained_betas"] = _end_above_pure_noise(betas)
    return choice.scheduler_class(**settings)


def scheduler_name(scheduler: SchedulerMixin) -> str | None:
    """The name under which `build_scheduler` makes a scheduler of this kind; None for kinds without one."""
    for name, choice in SCHEDULERS.items():
        changes = {key: value for key, value in choice.changes.items() if key != "timestep_spacing"}
        if type(scheduler) is choice.scheduler_class and all(
            scheduler.config.get(key) == value for key, value in changes.items()
        ):
            return name
    return None


def scheduler_notes(
    base_config: Mapping[str, Any], *, spacing: str | None = None, zero_terminal_snr: bool = False
) -> list[str]:
    """What a person should know who asks a model with this scheduler config for these; one line each."""
    predicts_noise = base_config.get("prediction_type", "epsilon") == "epsilon"
    betas = base_config.get("trained_betas")
    ends_in_noise = betas is not None and float(betas[-1]) >= 1.0
    notes = []
    if zero_terminal_snr and ends_in_noise:
        notes.append("the model's schedule ends in pure noise already; zero terminal SNR changes nothing")
    elif zero_terminal_snr and predicts_noise:
        notes.append(
            "zero terminal SNR is off-training: the model predicts noise, which says nothing of the video in"
            " pure noise; expect artefacts"
        )
    elif zero_terminal_snr:
        notes.append("zero terminal SNR is off-training: the model never saw pure noise; colours may be off")
    elif spacing == "trailing" and predicts_noise:
        notes.append(
            "trailing steps are off-training: they start from pure noise at a step where the model still saw"
            " some of the video"
        )
    return notes


def _check_known(what: str, given: str, known: Mapping[str, Any]) -> None:
    if given in known:
        return
    near = difflib.get_close_matches(given, known, n=2, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(f"unknown {what} {given!r}.{hint} Known are: {', '.join(known)}")


def _check_spacing(name: str, spacing: str | None, zero_terminal_snr: bool) -> None:
    if zero_terminal_snr and name in ("ddim-official", "lcm"):
        raise ValueError(f"{name} has steps of its own, which never reach pure noise; use another scheduler")
    if spacing is None:
        return
    _check_known("spacing", spacing, SPACINGS)
    if name in _OWN_STEPS and spacing != _OWN_STEPS[name]:
        raise ValueError(f"{name} has steps of its own, so its spacing cannot be {spacing}; try ddim")
    if spacing == "legacy" and name != "ddim-official":
        raise ValueError(f"legacy steps are those of ddim-official, but the scheduler is {name}; use ddim-official")
    if spacing == "leading" and zero_terminal_snr:
        raise ValueError("leading steps never reach pure noise; with zero terminal SNR use trailing or linspace")


def _end_above_pure_noise(betas: list[float]) -> list[float]:
    """The same betas, except that a last ``alpha_bar`` of 0 becomes 2^-24, or less if that is no descent."""
    abar_S = alphas_cumprod(torch.tensor(betas, dtype=torch.float64))
    if abar_S[-1] > 0:
        return list(betas)
    smallest = min(SMALLEST_ALPHA_BAR, float(abar_S[-2]) / 2)
    return [*betas[:-1], 1 - smallest / float(abar_S[-2])]
