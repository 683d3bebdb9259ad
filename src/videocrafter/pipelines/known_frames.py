"""Frames that are known beforehand: they are held while the rest of a video is denoised and fits itself to them.

After every step the known frames' latents are replaced by the true ones, with noise of the level that the step has
reached (the replacement method of Ho et al. 2022, "Video diffusion models", section 3.1, and of inpainting).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def starting_latents(scheduler: Any, clean: Tensor, noise: Tensor, first_step: int) -> Tensor:
    """Clean latents [N, ...] with noise of the same shape: what to hand to `denoise` that begins with `first_step`.

    The scheduler must know its steps (`set_timesteps`) and must not be sampling.
    """
    begin = first_step * getattr(scheduler, "order", 1)
    if hasattr(scheduler, "set_begin_index"):
        # Solvers that count noise levels find the level by its place, not by a timestep that two may share.
        scheduler.set_begin_index(begin)
    latents = scheduler.add_noise(clean, noise, scheduler.timesteps[begin].expand(len(clean)))
    # `denoise` multiplies what it begins its very first step with, as if it were noise of unit variance.
    return latents / scheduler.init_noise_sigma if begin == 0 else latents


class KnownFrames:
    """Keeps frames of N videos at known latents while `denoise` works on all frames.

    Args:
        scheduler: the scheduler of the sampling, its steps set.
        clean: [N, C, K, h, w] latents of the known frames.
        frames: their K places in the video.
        noise: [N, C, T, h, w] what the other frames start from.

    Attributes:
        start: [N, C, T, h, w] what to hand to `denoise`: the noise, with the known frames beneath it.
    """

    def __init__(self, scheduler: Any, clean: Tensor, frames: Sequence[int], noise: Tensor) -> None:
        self.scheduler = scheduler
        self.clean = clean
        self.frames = torch.tensor(frames, device=noise.device)
        self.noise = noise.index_select(2, self.frames)
        known = starting_latents(scheduler, clean, self.noise, 0)
        self.start = noise.index_copy(2, self.frames, known.to(noise.dtype))

    def after_step(self, index: int, latents: Tensor) -> Tensor:
        """Latents after step number `index` with the known frames put back; after the last step, without noise."""
        following = index + 1
        known = self.clean
        if following < len(self.scheduler.timesteps):
            timestep = self.scheduler.timesteps[following].expand(len(latents))
            known = self.scheduler.add_noise(self.clean, self.noise, timestep)
        return latents.index_copy(2, self.frames, known.to(latents.dtype))
