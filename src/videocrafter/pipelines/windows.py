"""Overlapping windows over time: a network trained on short clips denoises a long video.

A network trained on 16 frames sees 16 frames at a time. Where windows overlap, a frame's prediction is the weighted
mean of the windows' predictions: MultiDiffusion (Bar-Tal et al. 2023) along time. FreeNoise (Qiu et al. 2024)
averages inside the temporal attention instead; averaging predictions needs no change to the network. Windows run one
after the other, so the network's memory does not depend on the length of the video.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Layout of windows over a video.

    Attributes:
        num_frames: frames of the video.
        length: frames of one window; a shorter video is one window of its own length.
        overlap: minimum number of frames that neighbouring windows share, 0 … length - 1. The last window ends with
            the video and may share more, unless the layout is a ring.
        ring: whether the last frame is followed by the first, so that windows wrap around.
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
                f"overlap must be between 0 and {self.length - 1} for windows of {self.length} frames, but is"
                f" {self.overlap}"
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
        """Return the frames of each window, [size] indices in order; `offset` shifts the windows of a ring."""
        within = torch.arange(self.size)
        if self.ring:
            starts = range(0, self.num_frames, self.stride) if self.size < self.num_frames else [0]
            return [(start + offset + within) % self.num_frames for start in starts]
        last = self.num_frames - self.size
        return [start + within for start in [*range(0, last, self.stride), last]]

    def weights(self, offset: int = 0) -> list[Tensor]:
        """Return the weights of each window's frames, [size]; per frame, they sum to 1 over all windows.

        Weights are highest in the middle of a window, where the network sees both neighbours of a frame.
        """
        within = torch.arange(self.size, dtype=torch.float32)
        pyramid = torch.minimum(within + 1, self.size - within)
        frames = self.frames(offset)
        total = torch.zeros(self.num_frames)
        for window in frames:
            total[window] += pyramid
        return [pyramid / total[window] for window in frames]


class WindowedUNet:
    """Same call as `VideoUNet`, for videos of `windows.num_frames` frames; runs the network window by window.

    For a video that fits into one window the result is exactly the network's.

    Args:
        unet: VideoUNet, or anything with the same call.
        windows: layout of the windows.

    Attributes:
        offset: first frame of the first window of a ring. Change it between steps, so that seams move.
    """

    def __init__(self, unet: Any, windows: Windows) -> None:
        self.unet = unet
        self.windows = windows
        self.offset = 0

    @property
    def takes_branches(self) -> bool:
        """Whether several conditions per clip are accepted, as by the network."""
        return bool(getattr(self.unet, "takes_branches", False))

    def __call__(self, sample: Tensor, *conditions: Any, **options: Any) -> Tensor:
        """Predict [B, C, T, H, W], float32 or wider, from noisy latents of that shape; kB rows for k branches.

        All other arguments of `VideoUNet.forward` (timestep, text, fps …) apply to the whole video and are passed to
        every window unchanged.
        """
        frames = self.windows.frames(self.offset)
        if len(frames) == 1 and not self.windows.ring:
            return self.unet(sample, *conditions, **options)
        # Accumulate in float32 or wider: half precision would round the weighted sum.
        mean: Tensor | None = None
        for window, weight in zip(frames, self.windows.weights(self.offset), strict=True):
            index = window.to(sample.device)
            prediction = self.unet(sample.index_select(2, index), *conditions, **options)
            share = weight.to(sample.device)[:, None, None]
            if mean is None:
                wide = torch.promote_types(sample.dtype, torch.float32)
                mean = sample.new_zeros((len(prediction), *sample.shape[1:]), dtype=wide)
            mean.index_add_(2, index, prediction.to(mean.dtype) * share)
        assert mean is not None, "a video has at least one window"
        return mean
