"""Loops: videos whose last frame leads into the first (no retraining needed).

The latents are a ring. In every step the windows lie on it at another place, so that each frame is seen with both
its neighbours and no frame is always the first of a window.
"""

from __future__ import annotations

import math

from torch import Tensor

from videocrafter.pipelines.derived_pipeline import Sampling
from videocrafter.pipelines.long_video import LongVideo, long_noise
from videocrafter.pipelines.windows import WindowedUNet, Windows

_GOLDEN_SHARE = (3 - math.sqrt(5)) / 2


class LoopedVideo(LongVideo):
    """Makes videos of any length that loop. Arguments as in `LongVideo`."""

    def windows(self, num_frames: int) -> Windows:
        """How windows lie over a video."""
        return Windows(num_frames=num_frames, length=self.window, overlap=self.overlap, ring=True)

    def sample(self, sampling: Sampling) -> Tensor:
        """Latents of the whole video, denoised together on a ring."""
        num_frames = sampling.request.num_frames
        windows = self.windows(num_frames)
        unet = WindowedUNet(self.pipeline.unet, windows)

        def turn(index: int, latents: Tensor) -> Tensor:
            unet.offset = (index + 1) * turn_per_step(num_frames) % num_frames
            return latents

        return sampling.run(long_noise(sampling, windows), unet=unet, after_step=turn)


def turn_per_step(num_frames: int) -> int:
    """Frames by which the windows move from step to step: few steps reach places all around the ring.

    About the golden share of the ring, and coprime to it, so that no place comes twice before all others.
    """
    wanted = num_frames * _GOLDEN_SHARE
    coprime = [turn for turn in range(1, num_frames + 1) if math.gcd(turn, num_frames) == 1]
    return min(coprime, key=lambda turn: abs(turn - wanted))
