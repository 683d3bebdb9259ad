"""The steps of one sampling: a scheduler of its own, where it begins, and a safe first step from pure noise.

Everything that samples goes through `SamplingSteps`. A scheduler keeps the state of a running sampling, so one that
is shared by two calls would mix them up; here each sampling works on a copy.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from videocrafter.diffusion.objective import predicted_x0_and_noise
from videocrafter.diffusion.pure_noise import (
    SMALLEST_ALPHA_BAR,
    end_above_pure_noise,
    ends_in_pure_noise,
    starts_at_zero,
    starts_near_zero,
    with_betas,
)
from videocrafter.diffusion.schedule import alphas_cumprod

_NEEDED = ("alphas_cumprod", "add_noise", "scale_model_input", "set_timesteps", "step")
_STEP_ARGUMENTS = 3  # prediction, timestep, latents
_STEP_OPTIONS = ("eta", "generator", "return_dict")
_ADVICE = "choose a sampler with use_scheduler(...), such as 'dpm++2m' or 'euler'"


class SamplingSteps:
    """The steps of one sampling with a copy of a scheduler.

    A step of a second-order scheduler has two timesteps, except the last.

    Args:
        scheduler: any diffusers scheduler that follows the model's noise schedule. It is not changed.
        num_inference_steps: sampling steps.
        first_step: steps to skip.
        device: where the latents are.

    Attributes:
        scheduler: the copy.
        timesteps: those that remain after `first_step`.
        num_skipped: number of timesteps before them.
        num_steps: number of steps, the skipped ones included; a scheduler may make more than were asked for.

    Raises:
        ValueError: the scheduler cannot sample this model or not in this number of steps, or no step remains.
    """

    def __init__(
        self,
        scheduler: Any,
        num_inference_steps: int,
        *,
        first_step: int = 0,
        device: torch.device | None = None,
    ) -> None:
        check_scheduler(scheduler)
        self.scheduler, self._pure_noise = _prepared(scheduler, num_inference_steps, device)
        self.alphas_cumprod = scheduler.alphas_cumprod
        order = getattr(self.scheduler, "order", 1)
        before = [] if self._pure_noise is None else [self._pure_noise]
        own = [] if before and num_inference_steps == 1 else list(self.scheduler.timesteps)
        self.num_steps = len(before) + -(-len(own) // order)
        if not 0 <= first_step < self.num_steps:
            raise ValueError(f"first_step must leave at least one of {self.num_steps} steps, but is {first_step}")
        begin = max(0, first_step - len(before)) * order
        self.num_skipped = begin if first_step == 0 else begin + len(before)
        self.timesteps = [*before, *own][self.num_skipped :]
        # Read once: a read from a GPU in every step would wait for the steps before.
        self._times = torch.stack(self.timesteps).cpu().tolist()
        self._from_pure_noise = first_step == 0 and self._pure_noise is not None
        if hasattr(self.scheduler, "set_begin_index"):
            # Without it, solvers look the first step up by its timestep, which several may share after rounding.
            self.scheduler.set_begin_index(begin)

    def start(self, noise: Tensor) -> Tensor:
        """Turn standard normal noise into the latents that sampling starts from; only without skipped steps."""
        return noise if self._from_pure_noise else noise * self.scheduler.init_noise_sigma

    def add_noise(self, clean: Tensor, noise: Tensor, index: int = 0) -> Tensor:
        """Noise clean latents [B, ...] to the level of a timestep: the first, or the next while sampling."""
        if index == 0 and self._from_pure_noise:
            return noise
        return self.scheduler.add_noise(clean, noise, self.timesteps[index].expand(len(clean)))

    def scale_model_input(self, latents: Tensor, index: int) -> Tensor:
        """Return latents in variance-preserving form."""
        if index == 0 and self._from_pure_noise:
            return latents
        return self.scheduler.scale_model_input(latents, self.timesteps[index])

    def step(self, prediction: Tensor, index: int, latents: Tensor, arguments: Mapping[str, Any]) -> Tensor:
        """Return the latents after a step; `arguments` are those of the scheduler's `step`."""
        if index == 0 and self._from_pure_noise:
            return self._leave_pure_noise(prediction, latents)
        return self.scheduler.step(prediction, self.timesteps[index], latents, return_dict=False, **arguments)[0]

    def clean_estimate(self, prediction: Tensor, index: int, sample: Tensor) -> Tensor:
        """Return the clean latents that a prediction for `sample`, which is variance preserving, implies."""
        # In pure noise a noise prediction does not determine the clean latents: the floor keeps the estimate finite.
        abar = self._signal_level(index).clamp(min=SMALLEST_ALPHA_BAR)
        return self._clean_and_noise(prediction, sample, abar)[0]

    def log_snr(self, index: int) -> float:
        """Return the log signal-to-noise ratio at which a step begins; finite also in pure noise."""
        abar = self._signal_level(index).double().clamp(min=SMALLEST_ALPHA_BAR, max=1 - SMALLEST_ALPHA_BAR)
        return float(torch.logit(abar))

    def _signal_level(self, index: int) -> Tensor:
        """Return the cumulative signal level at a step; some solvers step between training timesteps."""
        level, time = self.alphas_cumprod.float().cpu(), self._times[index]
        above = min(int(time) + 1, len(level) - 1)
        return torch.lerp(level[int(time)], level[above], time - int(time))

    def _leave_pure_noise(self, prediction: Tensor, noise: Tensor) -> Tensor:
        """Take the first step: to the second timestep, along the predicted clean latents and the same noise."""
        predicts_noise = self.scheduler.config.prediction_type == "epsilon"
        abar = torch.tensor(SMALLEST_ALPHA_BAR if predicts_noise else 0.0)
        clean, noise = self._clean_and_noise(prediction, noise, abar)
        return self.add_noise(clean, noise, 1) if len(self.timesteps) > 1 else clean

    def _clean_and_noise(self, prediction: Tensor, sample: Tensor, abar: Tensor) -> tuple[Tensor, Tensor]:
        kind = self.scheduler.config.prediction_type
        if kind == "sample":
            return prediction, (sample - abar.sqrt() * prediction) / (1 - abar).sqrt()
        return predicted_x0_and_noise(prediction, sample, abar.reshape(1), kind)


def check_scheduler(scheduler: Any) -> None:
    """Raise ValueError if a scheduler cannot sample a model with a noise schedule; the message says what to use."""
    name = type(scheduler).__name__
    missing = [one for one in _NEEDED if not hasattr(scheduler, one)]
    if missing:
        raise ValueError(f"{name} does not sample models with a noise schedule (it has no {missing[0]}); {_ADVICE}")
    parameters = list(inspect.signature(scheduler.step).parameters.values())
    required = [one.name for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    if len([one for one in required if one not in _STEP_OPTIONS]) > _STEP_ARGUMENTS:
        needs = ", ".join(required)
        raise ValueError(f"{name} is made for another pipeline (its steps need {needs}); {_ADVICE}")
    predicts = scheduler.config.get("prediction_type", "epsilon")
    if predicts != "epsilon" and "prediction_type" not in inspect.signature(type(scheduler).__init__).parameters:
        raise ValueError(f"{name} samples only models that predict noise, but this one has {predicts!r}; {_ADVICE}")
    betas = scheduler.config.get("trained_betas")
    if betas is None or scheduler.config.get("rescale_betas_zero_snr"):
        return
    expected_S = alphas_cumprod(torch.tensor(betas, dtype=torch.float64))
    if not torch.allclose(scheduler.alphas_cumprod.double().cpu(), expected_S, rtol=1e-3, atol=1e-6):
        raise ValueError(f"{name} changes the model's noise schedule (`trained_betas`); {_ADVICE}")


def _prepared(scheduler: Any, num_steps: int, device: torch.device | None) -> tuple[Any, Tensor | None]:
    """Return a copy of a scheduler with its timesteps, and the timestep of pure noise if the copy begins after it."""
    own = copy.deepcopy(scheduler)
    if own.config.get("clip_sample") and own.config.get("clip_sample_range", 1.0) == 1.0:
        # For pixels, and the default of some classes. Latents are larger than 1.
        own.register_to_config(clip_sample=False)
    predicts_noise = own.config.get("prediction_type", "epsilon") == "epsilon"
    if not ends_in_pure_noise(own) or (starts_at_zero(type(own)) and not predicts_noise):
        _set_timesteps(own, num_steps, device)
        return own, None
    betas = own.betas.tolist()
    raised = end_above_pure_noise(betas) if own.alphas_cumprod[-1] == 0 else betas
    spacing = _spacing(own)
    if starts_near_zero(own) or spacing == "leading":
        own = own if raised is betas else with_betas(own, raised)
        _set_timesteps(own, num_steps, device)
        return own, None
    first = torch.tensor(len(betas) - 1, device=device)
    if num_steps == 1:
        return own, first
    # The remaining steps are those of a schedule that ends at the second timestep.
    rest = with_betas(own, betas[: _second_timestep(spacing, len(betas), num_steps) + 1])
    _set_timesteps(rest, num_steps - 1, device)
    return rest, first


def _spacing(scheduler: Any) -> str:
    """Return which timesteps a scheduler visits; those without the setting begin at the last one."""
    accepted = inspect.signature(type(scheduler).__init__).parameters
    return scheduler.config.timestep_spacing if "timestep_spacing" in accepted else "trailing"


def _second_timestep(spacing: str, num_train_timesteps: int, num_steps: int) -> int:
    """Return the second of the timesteps that begin with the last training timestep."""
    if spacing == "linspace":
        return round((num_train_timesteps - 1) * (num_steps - 2) / (num_steps - 1))
    return round(num_train_timesteps * (num_steps - 1) / num_steps) - 1


def _set_timesteps(scheduler: Any, num_steps: int, device: torch.device | None) -> None:
    name = type(scheduler).__name__
    try:
        scheduler.set_timesteps(num_steps, device=device)
    except (ValueError, IndexError, ArithmeticError) as error:
        raise ValueError(f"{name} cannot sample in so few or so many steps ({error}); use another number") from error
    if scheduler.timesteps[0] < scheduler.timesteps[-1]:
        raise ValueError(f"{name} turns videos into noise; {_ADVICE}")
