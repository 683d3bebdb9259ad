"""Known frames: some frames of a video are held at given latents while the others are denoised around them.

After every step the latents of the known frames are replaced by the true ones, noised to the level of the next step
(the replacement method of Ho et al. 2022, "Video diffusion models", section 3.1; also used for inpainting).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from videocrafter.diffusion.sampling_steps import SamplingSteps


class KnownFrames:
    """Holds frames of N videos at known latents while `denoise` works on all frames.

    Args:
        steps: the steps of the sampling, not begun yet.
        clean: [N, C, K, h, w] latents of the known frames.
        frames: their K positions in the video.
        noise: [N, C, T, h, w] standard normal noise of the whole video.

    Attributes:
        start: [N, C, T, h, w] latents that sampling starts from, with the noised known frames in them.
    """

    def __init__(self, steps: SamplingSteps, clean: Tensor, frames: Sequence[int], noise: Tensor) -> None:
        self.steps = steps
        self.clean = clean
        self.frames = torch.tensor(frames, device=noise.device)
        self.noise = noise.index_select(2, self.frames)
        known = steps.add_noise(clean, self.noise)
        self.start = steps.start(noise).index_copy(2, self.frames, known.to(noise.dtype))

    def after_step(self, index: int, latents: Tensor) -> Tensor:
        """Put the known frames back after step number `index`; after the last step, without noise."""
        following = index + 1
        known = self.clean
        if following < len(self.steps.timesteps):
            known = self.steps.add_noise(self.clean, self.noise, following)
        return latents.index_copy(2, self.frames, known.to(latents.dtype))
