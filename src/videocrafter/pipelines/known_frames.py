"""Known frames: some frames of a video are held at given latents while the others are denoised around them.

After every step the latents of the known frames are replaced by the true ones, noised to the level of the next step
(the replacement method of Ho et al. 2022, "Video diffusion models", section 3.1; also used for inpainting).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from videocrafter.pipelines.denoising import begin_steps


def starting_latents(
    scheduler: Any, num_inference_steps: int, clean: Tensor, noise: Tensor, first_step: int = 0
) -> Tensor:
    """Noise clean latents [N, ...] to the level of `first_step`: the input of `denoise` with that `first_step`.

    Sets the scheduler's steps, so it must not be sampling.
    """
    timesteps = begin_steps(scheduler, num_inference_steps, first_step, noise.device)
    latents = scheduler.add_noise(clean, noise, timesteps[0].expand(len(clean)))
    # `denoise` multiplies the input of its very first step by this, as if it were noise of unit variance.
    return latents / scheduler.init_noise_sigma if first_step == 0 else latents


class KnownFrames:
    """Holds frames of N videos at known latents while `denoise` works on all frames.

    Args:
        scheduler: the scheduler of the sampling; its steps are set here.
        num_inference_steps: sampling steps.
        clean: [N, C, K, h, w] latents of the known frames.
        frames: their K positions in the video.
        noise: [N, C, T, h, w] initial noise of the whole video.

    Attributes:
        start: [N, C, T, h, w] input of `denoise`: the noise, with the noised known frames in it.
    """

    def __init__(
        self, scheduler: Any, num_inference_steps: int, clean: Tensor, frames: Sequence[int], noise: Tensor
    ) -> None:
        self.scheduler = scheduler
        self.clean = clean
        self.frames = torch.tensor(frames, device=noise.device)
        self.noise = noise.index_select(2, self.frames)
        known = starting_latents(scheduler, num_inference_steps, clean, self.noise)
        self.start = noise.index_copy(2, self.frames, known.to(noise.dtype))

    def after_step(self, index: int, latents: Tensor) -> Tensor:
        """Put the known frames back after step number `index`; after the last step, without noise."""
        following = index + 1
        known = self.clean
        if following < len(self.scheduler.timesteps):
            timestep = self.scheduler.timesteps[following].expand(len(latents))
            known = self.scheduler.add_noise(self.clean, self.noise, timestep)
        return latents.index_copy(2, self.frames, known.to(latents.dtype))
