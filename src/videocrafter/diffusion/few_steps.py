"""The sampler of distilled models: a few fixed timesteps, deterministic.

A student that was distilled in segments maps any point of a segment to the segment's end. It is therefore sampled
with DDIM's deterministic step from one boundary to the next; other timesteps are outside its training.

Shape suffix: ``S`` training timesteps.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_ddim import DDIMScheduler, DDIMSchedulerOutput
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from videocrafter.diffusion.objective import add_noise, predicted_x0_and_noise
from videocrafter.diffusion.pure_noise import SMALLEST_ALPHA_BAR
from videocrafter.diffusion.schedule import PAPER_BETA_END, PAPER_BETA_START

SEGMENT_SNR = (0.03, 0.5, 5.0)
"""Signal-to-noise ratios at which the second, third and fourth of four segments begin.

Equal steps in time are wrong for schedules with much noise: with the miniature's, the last of four such steps would
have to make everything that is finer than a ratio of 1.5.
"""


def few_step_times(alphas_cumprod_S: Tensor, snrs: Sequence[float] = SEGMENT_SNR) -> tuple[int, ...]:
    """Return the first timestep of each segment, descending: the last of training, then those nearest to `snrs`.

    Args:
        snrs: ``alpha_bar / (1 - alpha_bar)`` at the boundaries, ascending; one fewer than there are segments.

    Raises:
        ValueError: the schedule does not tell these boundaries apart.
    """
    abar_S = alphas_cumprod_S.double().cpu()
    log_snr_S = torch.log(abar_S / (1 - abar_S))
    times = [len(abar_S) - 1, *(int((log_snr_S - np.log(snr)).abs().argmin()) for snr in snrs)]
    if any(later >= earlier for earlier, later in itertools.pairwise(times)):
        raise ValueError(
            f"signal-to-noise ratios {tuple(snrs)} give the timesteps {times} of {len(abar_S)}, which must descend; "
            "give other ratios, in ascending order"
        )
    return tuple(times)


# SchedulerMixin is listed for diffusers, which looks base classes up by name; see `OfficialDDIMScheduler`.
class FewStepScheduler(DDIMScheduler, SchedulerMixin):
    """Deterministic DDIM at fixed timesteps, ending in the clean latent.

    `few_step_times` are the timesteps that the model was distilled for, descending; None takes those of
    :func:`few_step_times`. Another number of steps spaces its timesteps evenly between them, counted in segments:
    half the steps visit every other one.
    """

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = PAPER_BETA_START,
        beta_end: float = PAPER_BETA_END,
        beta_schedule: str = "scaled_linear",
        trained_betas: list[float] | None = None,
        prediction_type: Literal["epsilon", "v_prediction"] = "epsilon",
        rescale_betas_zero_snr: bool = False,
        few_step_times: list[int] | None = None,
    ) -> None:
        super().__init__(
            num_train_timesteps=num_train_timesteps,
            beta_start=beta_start,
            beta_end=beta_end,
            beta_schedule=beta_schedule,
            trained_betas=trained_betas,
            prediction_type=prediction_type,
            rescale_betas_zero_snr=rescale_betas_zero_snr,
            clip_sample=False,
            set_alpha_to_one=True,
            timestep_spacing="trailing",
        )
        times = _default_times(self.alphas_cumprod) if few_step_times is None else [int(t) for t in few_step_times]
        descends = all(later < earlier for earlier, later in itertools.pairwise(times))
        if not times or not descends or not 0 <= times[-1] <= times[0] < num_train_timesteps:
            raise ValueError(
                f"few_step_times is {few_step_times}; expected descending timesteps below {num_train_timesteps}"
            )
        self.times = tuple(times)

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Set the timesteps of `num_inference_steps` steps, descending."""
        self.num_inference_steps = num_inference_steps
        segments = np.arange(num_inference_steps) * len(self.times) / num_inference_steps
        places = np.interp(segments, np.arange(len(self.times) + 1), [*self.times, 0])
        # Many steps may round to the same timestep.
        ascending = np.unique(places.round().astype(np.int64))
        self.timesteps = torch.from_numpy(ascending[::-1].copy()).to(device)

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        return_dict: bool = True,
    ) -> DDIMSchedulerOutput | tuple[Any, ...]:
        """Return the sample at the next timestep, along the predicted clean latent and noise; at last the clean one.

        Args:
            model_output: the network's prediction, shaped like `sample`.
            timestep: one of `timesteps`.
            sample: latents at this timestep.
        """
        later = [int(t) for t in self.timesteps if int(t) < int(timestep)]
        reached = self.alphas_cumprod[later[0]] if later else torch.tensor(1.0)
        # A noise prediction does not determine the clean latents in pure noise; the floor keeps them finite.
        lowest = SMALLEST_ALPHA_BAR if self.config.prediction_type == "epsilon" else 0.0
        level = self.alphas_cumprod[int(timestep)].clamp(min=lowest).reshape(1).to(sample.device)
        clean, noise = predicted_x0_and_noise(model_output, sample, level, self.config.prediction_type)
        previous = add_noise(clean, noise, reached.reshape(1).to(sample.device)).to(sample.dtype)
        if not return_dict:
            return (previous, clean)
        return DDIMSchedulerOutput(prev_sample=previous, pred_original_sample=clean)


def _default_times(alphas_cumprod_S: Tensor) -> list[int]:
    return list(few_step_times(alphas_cumprod_S))
