"""The official DDIM sampler: stock DDIM with the official timesteps, last step and variance.

Stock ``DDIMScheduler`` samples every checkpoint correctly (see ``schedule.vp_change_of_variables``); this one
reproduces the numbers of the official code. Shape suffix: ``S`` training timesteps.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from videocrafter.diffusion import schedule


# SchedulerMixin is listed although DDIMScheduler inherits it: when it loads a pipeline, diffusers identifies the kind
# of a component by the base classes that it finds by name in the module of the class.
class OfficialDDIMScheduler(DDIMScheduler, SchedulerMixin):
    """DDIM as in the official VideoCrafter code, in variance-preserving variables.

    It differs from the stock scheduler in three ways:

    - **Timesteps** are ``1, 1 + c, 1 + 2c, ...`` with ``c = S // n``. If n does not divide S there are more steps
      than requested (63 for n = 60), and a step of exactly S (for n = 27 or 37 and S = 1000, where the official code
      fails) is omitted.
    - **The last step** ends at the first ``alpha_bar`` of the schedule, not at 1.
    - **The variance** for eta above 0 is that of the *unscaled* schedule, divided by ``n`` at the target step:
      ``sigma'^2 = (1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev) / n_prev^2``. Computed from ``abar'``, as the
      stock scheduler does, it differs unless ``signal_scale`` is 1. With eta 0 the two samplers agree.

    ``signal_scale`` is the ``b`` of ``schedule.signal_scale`` that ``trained_betas`` were computed with. Without
    ``trained_betas``, both come from the paper's schedule.
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
        # Pass everything by name, so that it is stored in the config and a stock scheduler built from that config has
        # the same settings.
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
        """Set about ``num_inference_steps`` timesteps, descending; see the class for when there are more."""
        super().set_timesteps(num_inference_steps, device)
        num_train = self.config.num_train_timesteps
        ascending = np.arange(1, num_train, num_train // num_inference_steps)
        self.timesteps = torch.from_numpy(ascending[::-1].astype(np.int64)).to(device)

    def _get_variance(self, timestep: int, prev_timestep: int) -> torch.Tensor:
        reached = max(int(prev_timestep), 0)
        abar, abar_prev = self._unscaled_abar_S[int(timestep)], self._unscaled_abar_S[reached]
        variance = (1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev)
        return (variance / self._norm_squared_S[reached]).float()
