"""The official DDIM sampler: stock DDIM with the official time steps, last step and variance.

Stock ``DDIMScheduler`` is a right sampler for every checkpoint (see ``schedule.vp_change_of_variables``);
this one repeats the numbers of the official code. Shape suffix: ``S`` training timesteps.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from diffusers import DDIMScheduler
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from videocrafter.diffusion import schedule


# SchedulerMixin is named although DDIMScheduler brings it: when a pipeline is loaded, diffusers tells what
# kind of component a class is by the base classes that it finds by name in the class's own module.
class OfficialDDIMScheduler(DDIMScheduler, SchedulerMixin):
    """DDIM as the official VideoCrafter samples, in variance-preserving variables.

    It differs from the stock scheduler in three things:

    - **Time steps** are ``1, 1 + c, 1 + 2c, ...`` with ``c = S // n``: for n that does not divide S there are
      more steps than asked for (60 asked gives 63), and a step of exactly S (27 or 37 of 1000, where the
      official code fails) is left out.
    - **The last step** ends at the first ``alpha_bar`` of the schedule, not at 1.
    - **The variance** for eta above 0 is that of the *unscaled* schedule, divided by ``n`` of the step
      reached: ``sigma'^2 = (1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev) / n_prev^2``. Written with
      ``abar'`` (as the stock scheduler does) it is another number whenever ``signal_scale`` is not 1. With
      eta 0 the two samplers agree.

    ``signal_scale`` is the ``b`` of ``schedule.signal_scale`` that ``trained_betas`` were made with; without
    ``trained_betas`` both come from the paper's schedule.
    """

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        trained_betas: list[float] | None = None,
        signal_scale: float = 1.0,
        prediction_type: Literal["epsilon", "v_prediction"] = "epsilon",
    ) -> None:
        scale_S = schedule.signal_scale(signal_scale, num_train_timesteps)
        if trained_betas is None:
            paper_S = schedule.alphas_cumprod(schedule.linear_betas(num_train_timesteps))
            trained_betas = schedule.vp_change_of_variables(paper_S, scale_S).trained_betas
        # Everything is passed by name so that the config holds it, and a stock scheduler that is built from
        # this config starts from the same settings.
        super().__init__(
            num_train_timesteps=num_train_timesteps,
            trained_betas=trained_betas,
            prediction_type=prediction_type,
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            timestep_spacing="leading",
        )
        odds_S = self.alphas_cumprod.double() / (1 - self.alphas_cumprod.double()) / scale_S**2
        self._unscaled_abar_S = odds_S / (1 + odds_S)
        self._norm_squared_S = self._unscaled_abar_S * scale_S**2 + (1 - self._unscaled_abar_S)

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Lay out about ``num_inference_steps`` steps, descending; see the class for when there are more."""
        super().set_timesteps(num_inference_steps, device)
        num_train = self.config.num_train_timesteps
        ascending = np.arange(1, num_train, num_train // num_inference_steps)
        self.timesteps = torch.from_numpy(ascending[::-1].astype(np.int64)).to(device)

    def _get_variance(self, timestep: int, prev_timestep: int) -> torch.Tensor:
        reached = max(int(prev_timestep), 0)
        abar, abar_prev = self._unscaled_abar_S[int(timestep)], self._unscaled_abar_S[reached]
        variance = (1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev)
        return (variance / self._norm_squared_S[reached]).float()
