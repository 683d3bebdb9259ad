"""Loops: videos whose last frame leads into the first, without retraining.

The latents form a ring. In every step the windows start at another frame, so that each frame is seen with both its
neighbours and no frame is always the first of a window.
"""

from __future__ import annotations

import math

from torch import Tensor

from videocrafter.pipelines.long_video import LongVideo
from videocrafter.pipelines.phases import EncodedRequest
from videocrafter.pipelines.windows import WindowedUNet, Windows

_GOLDEN_SHARE = (3 - math.sqrt(5)) / 2


class LoopedVideo(LongVideo):
    """Makes looping videos of any length. Arguments as in `LongVideo`."""

    def windows(self, num_frames: int) -> Windows:
        """Lay windows over a ring of frames."""
        return Windows(num_frames=num_frames, length=self.window, overlap=self.overlap, ring=True)

    def sample(self, encoded: EncodedRequest) -> Tensor:
        """Return the latents of the whole video, denoised together on a ring."""
        num_frames = encoded.request.num_frames
        windows = self.windows(num_frames)
        unet = WindowedUNet(self.pipeline.denoiser, windows)

        def turn(index: int, latents: Tensor) -> Tensor:
            unet.offset = (index + 1) * turn_per_step(num_frames) % num_frames
            return latents

        noise = self.windowed_noise(encoded.request, windows)
        steps = self.pipeline.sampling_steps(encoded.request)
        return self.pipeline.denoise(encoded, steps, steps.start(noise), unet=unet, after_step=turn)


def turn_per_step(num_frames: int) -> int:
    """Return by how many frames the windows move per step, so that few steps cover the whole ring.

    About the golden share of the ring, and coprime to it, so that every offset is used before one repeats.
    """
    wanted = num_frames * _GOLDEN_SHARE
    coprime = [turn for turn in range(1, num_frames + 1) if math.gcd(turn, num_frames) == 1]
    return min(coprime, key=lambda turn: abs(turn - wanted))
