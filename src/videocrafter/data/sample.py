"""Batches of captioned videos, as training consumes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from videocrafter.data.cutting import CachedCut, CutClip, CutName


@dataclass(frozen=True, kw_only=True)
class VideoBatch:
    """Captioned videos of one size and length, or images if T is 1.

    Attributes:
        pixels: [B, T, C, H, W], floats in [-1, 1]; cached videos are left out.
        captions: B captions; may be empty strings.
        fps: [B] frame rate of the pixels, in frames per second (the motion-speed condition).
        keys: B names, each made of the source's label and the clip's name.
        cuts: B names of cuts; empty if clips have no fixed cuts.
        cached: B cached values, None for a video that has pixels; empty if no video is cached.
    """

    pixels: Tensor
    captions: tuple[str, ...]
    fps: Tensor
    keys: tuple[str, ...]
    cuts: tuple[CutName, ...] = ()
    cached: tuple[object | None, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.ndim != 5 or not self.pixels.is_floating_point():
            raise ValueError(
                f"pixels are {self.pixels.dtype} {list(self.pixels.shape)}, "
                "expected floats [B, T, C, H, W] in [-1, 1]"
            )
        counts = {
            "pixels": self.pixels.shape[0] + sum(content is not None for content in self.cached),
            "captions": len(self.captions),
            "fps": self.fps.shape[0],
            "keys": len(self.keys),
            **({"cuts": len(self.cuts)} if self.cuts else {}),
            **({"cached": len(self.cached)} if self.cached else {}),
        }
        if len(set(counts.values())) != 1:
            raise ValueError(f"a batch has {counts}, expected the same number of each")

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def num_frames(self) -> int:
        """Frames per video; 1 for a batch of images."""
        return self.pixels.shape[1]

    def to(self, device: torch.device | str) -> VideoBatch:
        """Return the batch with its tensors on `device`."""
        return replace(self, pixels=self.pixels.to(device), fps=self.fps.to(device))


def pixels_of(cuts: Sequence[CutClip | CachedCut]) -> Tensor:
    """Return the pixels of the cuts that were decoded, [B, T, C, H, W] in [-1, 1]. All cuts have one shape."""
    decoded = [cut.pixels for cut in cuts if isinstance(cut, CutClip)]
    stacked = np.stack(decoded) if decoded else np.empty((0, *cuts[0].shape), np.uint8)
    pixels = torch.from_numpy(stacked).permute(0, 1, 4, 2, 3)
    return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)
