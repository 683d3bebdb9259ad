"""Samplers by name: the diffusers scheduler of each, and the settings that it needs for our noise schedules.

Every model stores one scheduler config. Its ``trained_betas`` are variance preserving (see
``schedule.vp_change_of_variables``), so any stock scheduler built from that config samples the model correctly.

The DDIM family keeps the timestep spacing of the config, which describes the official steps. The other samplers use
"trailing" steps, which start at the last training timestep: with "leading", the multistep solvers of diffusers start
20 of 1000 steps at 940, and 200 steps at 800, where the latent is far from noise. Users can choose another spacing,
or stretch the noise schedule to end in pure noise; see `SPACINGS` and `scheduler_notes`.

Sample with `SamplingSteps`. Code with its own sampling loop should call ``scheduler.set_begin_index(0)`` after
``set_timesteps``: otherwise the multistep solvers look a step up by its timestep, and with "dpm++2m-lu" several steps
can have the same one. On schedules that end in pure noise, "heun" needs the first step of `SamplingSteps`.

Not every sampler can start from pure noise; see `pure_noise`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
from videocrafter.diffusion.few_steps import FewStepScheduler
from videocrafter.diffusion.pure_noise import end_above_pure_noise, starts_at_zero
from videocrafter.diffusion.schedule import zero_terminal_snr_betas

SPACINGS: Mapping[str, str] = {
    "legacy": "the steps of the official code; ddim-official only",
    "leading": "evenly spaced, starting at the first training timestep; the last ones are never visited",
    "trailing": "evenly spaced, including the last training timestep; untrained in models that predict noise",
    "linspace": "evenly spaced from the first to the last training timestep",
}
"""Ways to choose the training timesteps that sampling visits, each with a one-line description."""


@dataclass(frozen=True, kw_only=True)
class SchedulerChoice:
    """A sampler that can be selected by name."""

    scheduler_class: type[SchedulerMixin]
    summary: str
    """One-line description."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Changes to the model's scheduler config."""


_FROM_LAST_STEP = {"timestep_spacing": "trailing"}
_DPM_2M = {**_FROM_LAST_STEP, "algorithm_type": "dpmsolver++", "solver_order": 2, "use_lu_lambdas": False}

# Schedulers whose steps do not follow `timestep_spacing`, and the name of their spacing.
_OWN_STEPS: Mapping[str, str | None] = {
    "ddim-official": "legacy",
    "dpm++2m-lu": "trailing",
    "few-step": None,
    "lcm": None,
}

# By default stock DDIM, DDPM and LCM clip their predictions to [-1, 1], which suits pixels, not latents.
SCHEDULERS: Mapping[str, SchedulerChoice] = {
    "ddim": SchedulerChoice(
        scheduler_class=DDIMScheduler,
        summary="deterministic unless eta is above 0",
        changes={"clip_sample": False},
    ),
    "ddim-official": SchedulerChoice(
        scheduler_class=OfficialDDIMScheduler,
        summary="DDIM with the steps and variance of the official code, to reproduce its results",
    ),
    "ddpm": SchedulerChoice(
        scheduler_class=DDPMScheduler,
        summary="ancestral sampling; stochastic, needs many steps",
        changes={"clip_sample": False},
    ),
    "dpm++2m": SchedulerChoice(
        scheduler_class=DPMSolverMultistepScheduler,
        summary="second order, deterministic, good with 20 steps",
        changes=_DPM_2M,
    ),
    "dpm++2m-lu": SchedulerChoice(
        scheduler_class=DPMSolverMultistepScheduler,
        summary="dpm++2m with steps evenly spaced in log SNR; keeps fine detail on very noisy schedules",
        changes={**_DPM_2M, "use_lu_lambdas": True},
    ),
    "dpm++2m-sde": SchedulerChoice(
        scheduler_class=DPMSolverMultistepScheduler,
        summary="dpm++2m with fresh noise at every step",
        changes={**_DPM_2M, "algorithm_type": "sde-dpmsolver++"},
    ),
    "unipc": SchedulerChoice(
        scheduler_class=UniPCMultistepScheduler,
        summary="predictor-corrector, deterministic, good with few steps",
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
        summary="second order; calls the network twice per step",
        changes=_FROM_LAST_STEP,
    ),
    "lcm": SchedulerChoice(
        scheduler_class=LCMScheduler,
        summary="1 to 8 steps, for models distilled with latent consistency only",
        changes={"clip_sample": False},
    ),
    "few-step": SchedulerChoice(
        scheduler_class=FewStepScheduler,
        summary="the fixed steps of a model that `videocrafter train distill` made, deterministic",
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

    Settings that the class does not accept are dropped. All others are kept, including those that equal the defaults
    of the class that wrote the config (``from_config`` of diffusers drops these, which silently enables clipping).

    Args:
        spacing: one of `SPACINGS`; None for the default, see the module docstring.
        zero_terminal_snr: stretch the noise schedule to end in pure noise; uses "trailing" steps by default. If the
            model predicts noise, which is not informative there, or the solver cannot start there, the schedule ends
            at an ``alpha_bar`` of 2^-24.
        signal_scale: b of a signal-scaled model. ``ddim-official`` needs it unless it is in the config.

    Raises:
        ValueError: the name is unknown; the spacing is unknown or not supported by the scheduler; or zero terminal
            SNR is combined with steps that never reach the end.
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
        # Built only to compute the betas of configs that do not store them explicitly.
        trained = choice.scheduler_class(**settings).alphas_cumprod
        settings["trained_betas"] = zero_terminal_snr_betas(trained).tolist()
    betas = settings.get("trained_betas")
    predicts_noise = settings.get("prediction_type", "epsilon") == "epsilon"
    if betas is not None and (not starts_at_zero(choice.scheduler_class) or (zero_terminal_snr and predicts_noise)):
        settings["trained_betas"] = end_above_pure_noise(betas)
    return choice.scheduler_class(**settings)


def scheduler_name(scheduler: SchedulerMixin) -> str | None:
    """Return the name that `build_scheduler` has for a scheduler of this kind; None if it has none."""
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
    """Return notes for the user about these settings for a model with this scheduler config, one line each."""
    predicts_noise = base_config.get("prediction_type", "epsilon") == "epsilon"
    betas = base_config.get("trained_betas")
    ends_in_noise = betas is not None and float(betas[-1]) >= 1.0
    notes = []
    if zero_terminal_snr and ends_in_noise:
        notes.append("the model's schedule already ends in pure noise; zero terminal SNR changes nothing")
    elif zero_terminal_snr and predicts_noise:
        notes.append(
            "the model was not trained with zero terminal SNR and predicts noise, which is not informative in pure"
            " noise; expect artefacts"
        )
    elif zero_terminal_snr:
        notes.append("the model was not trained with zero terminal SNR; colours may be off")
    elif spacing == "trailing" and predicts_noise:
        notes.append(
            "the model was not trained for trailing steps, which start from pure noise; in training, the first of"
            " these steps still contained some signal"
        )
    return notes


def _check_known(what: str, given: str, known: Mapping[str, Any]) -> None:
    if given in known:
        return
    near = difflib.get_close_matches(given, known, n=2, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(f"unknown {what} {given!r}.{hint} Choose one of {', '.join(known)}.")


def _check_spacing(name: str, spacing: str | None, zero_terminal_snr: bool) -> None:
    if zero_terminal_snr and name in ("ddim-official", "few-step", "lcm"):
        raise ValueError(f"{name} has fixed steps for the model's own schedule; use another scheduler")
    if spacing is None:
        return
    _check_known("spacing", spacing, SPACINGS)
    if name in _OWN_STEPS and spacing != _OWN_STEPS[name]:
        raise ValueError(f"{name} has fixed steps, so its spacing cannot be {spacing}; use ddim")
    if spacing == "legacy" and name != "ddim-official":
        raise ValueError(f"spacing legacy needs the scheduler ddim-official, but the scheduler is {name}")
    if spacing == "leading" and zero_terminal_snr:
        raise ValueError("spacing leading never reaches pure noise; with zero terminal SNR use trailing or linspace")
