"""Long videos through a network for short ones: overlapping windows over time, predictions averaged.

A network trained on 16 frames is asked about 16 frames at a time. Where windows overlap, a frame's prediction
is the weighted mean of what the windows say: MultiDiffusion (Bar-Tal et al. 2023) along time. FreeNoise (Qiu et
al. 2024) takes such means inside the temporal attentions; taken of the predictions they need no change of the
network. Windows run one after the other, so the memory that the network needs does not depend on the length of
the video.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How windows lie over a video.

    Attributes:
        num_frames: frames of the video.
        length: frames of one window; a shorter video is one window of its own length.
        overlap: frames that neighbouring windows share, at least; 0 … length - 1. The last window of a line ends
            with the video and may share more.
        ring: the frame after the last is the first, and windows reach across.
    """

    num_frames: int
    length: int
    overlap: int = 0
    ring: bool = False

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ValueError(f"num_frames must be at least 1, but is {self.num_frames}")
        if self.length < 1:
            raise ValueError(f"window must be at least 1 frame, but is {self.length}")
        if not 0 <= self.overlap < self.length:
            raise ValueError(
                f"overlap must lie in 0 ... {self.length - 1} for windows of {self.length} frames,"
                f" but is {self.overlap}"
            )

    @property
    def size(self) -> int:
        """Frames that the network sees at once."""
        return min(self.length, self.num_frames)

    @property
    def stride(self) -> int:
        """Frames from the start of a window to the start of the next."""
        return self.length - self.overlap

    def frames(self, offset: int = 0) -> list[Tensor]:
        """The frames of each window, [size] indices in order; `offset` moves the windows of a ring."""
        within = torch.arange(self.size)
        if self.ring:
            starts = range(0, self.num_frames, self.stride) if self.size < self.num_frames else [0]
            return [(start + offset + within) % self.num_frames for start in starts]
        last = self.num_frames - self.size
        return [start + within for start in [*range(0, last, self.stride), last]]

    def weights(self, offset: int = 0) -> list[Tensor]:
        """What each window's prediction counts for each of its frames, [size]; over all windows they sum to 1.

        A window knows most about its middle, where both neighbours of a frame are in sight.
        """
        within = torch.arange(self.size, dtype=torch.float32)
        pyramid = torch.minimum(within + 1, self.size - within)
        frames = self.frames(offset)
        total = torch.zeros(self.num_frames)
        for window in frames:
            total[window] += pyramid
        return [pyramid / total[window] for window in frames]


class WindowedUNet:
    """Called like `VideoUNet`, on videos of `windows.num_frames` frames; asks the network window by window.

    A video that fits into one window gets exactly the network's answer.

    Args:
        unet: VideoUNet, or anything called like it.
        windows: how windows lie over the video.

    Attributes:
        offset: where the first window of a ring begins. Change it between steps: no seam then stays in one place.
    """

    def __init__(self, unet: Any, windows: Windows) -> None:
        self.unet = unet
        self.windows = windows
        self.offset = 0

    def __call__(self, sample: Tensor, *conditions: Any, **options: Any) -> Tensor:
        """Predict [B, C, T, H, W], float32 or wider, from noisy latents of that shape.

        All else that `VideoUNet.forward` takes (timestep, text, fps …) belongs to the whole video and reaches every
        window as it is.
        """
        frames = self.windows.frames(self.offset)
        if len(frames) == 1 and not self.windows.ring:
            return self.unet(sample, *conditions, **options)
        # Not in half precision: it would round the sum of the shares.
        mean = torch.zeros_like(sample, dtype=torch.promote_types(sample.dtype, torch.float32))
        for window, weight in zip(frames, self.windows.weights(self.offset), strict=True):
            index = window.to(sample.device)
            prediction = self.unet(sample.index_select(2, index), *conditions, **options)
            share = weight.to(sample.device)[:, None, None]
            mean.index_add_(2, index, prediction.to(mean.dtype) * share)
        return mean
