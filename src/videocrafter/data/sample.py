"""What a source yields and what training consumes: one captioned video, and a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from videocrafter.data.cutting import CutClip, CutName, KnownCut


@dataclass(frozen=True, kw_only=True)
class VideoSample:
    """One captioned video, or an image if it has one frame.

    Attributes:
        pixels: [T, C, H, W], floats in [-1, 1].
        caption: what the video shows; may be empty.
        fps: frames per second at which the pixels follow each other (the motion-speed condition).
        key: the sample's name in its source, for messages and for finding it again.
    """

    pixels: Tensor
    caption: str
    fps: float
    key: str

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or not self.pixels.is_floating_point():
            raise ValueError(
                f"sample {self.key!r}: pixels must be floats [T, C, H, W] in [-1, 1], "
                f"not {self.pixels.dtype} {list(self.pixels.shape)}"
            )
        if not self.fps > 0:
            raise ValueError(f"sample {self.key!r}: fps must be above 0, not {self.fps}")


@dataclass(frozen=True, kw_only=True)
class VideoBatch:
    """Captioned videos of one size and length, or images if T is 1.

    Attributes:
        pixels: [B, T, C, H, W], floats in [-1, 1]; of a batch with `known` only those of the others.
        captions: B captions.
        fps: [B] frames per second.
        keys: B names, as in VideoSample.
        cuts: B names of cuts; empty where clips have no fixed cuts.
        known: for each video what a memory keeps of it, None for one that has pixels; empty without a memory.
    """

    pixels: Tensor
    captions: tuple[str, ...]
    fps: Tensor
    keys: tuple[str, ...]
    cuts: tuple[CutName, ...] = ()
    known: tuple[object | None, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.ndim != 5 or not self.pixels.is_floating_point():
            raise ValueError(
                "pixels of a batch must be floats [B, T, C, H, W] in [-1, 1], "
                f"not {self.pixels.dtype} {list(self.pixels.shape)}"
            )
        counts = {
            "pixels": self.pixels.shape[0] + sum(content is not None for content in self.known),
            "captions": len(self.captions),
            "fps": self.fps.shape[0],
            "keys": len(self.keys),
            **({"cuts": len(self.cuts)} if self.cuts else {}),
            **({"known": len(self.known)} if self.known else {}),
        }
        if len(set(counts.values())) != 1:
            raise ValueError(f"a batch must hold one caption, fps and key per video, not {counts}")

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def num_frames(self) -> int:
        """Frames per video; 1 for a batch of images."""
        return self.pixels.shape[1]

    def to(self, device: torch.device | str) -> VideoBatch:
        """Return the batch with its tensors on `device`."""
        return replace(self, pixels=self.pixels.to(device), fps=self.fps.to(device))


def pixels_of(cuts: Sequence[CutClip | KnownCut]) -> Tensor:
    """Those of the cuts of one shape that were decoded, as a batch holds them, [B, T, C, H, W]; there may be none."""
    decoded = [cut.pixels for cut in cuts if isinstance(cut, CutClip)]
    stacked = np.stack(decoded) if decoded else np.empty((0, *cuts[0].shape), np.uint8)
    pixels = torch.from_numpy(stacked).permute(0, 1, 4, 2, 3)
    return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)


def stack_samples(samples: Sequence[VideoSample]) -> VideoBatch:
    """Put samples of one size and length into a batch.

    Raises:
        ValueError: there are none, or their shapes differ.
    """
    if not samples:
        raise ValueError("a batch needs at least one sample, got none")
    first = samples[0]
    for sample in samples:
        if sample.pixels.shape != first.pixels.shape:
            raise ValueError(
                "samples of one batch must have one shape: "
                f"{first.key!r} has {list(first.pixels.shape)}, "
                f"{sample.key!r} has {list(sample.pixels.shape)}; "
                "resize or cut them first"
            )
    return VideoBatch(
        pixels=torch.stack([sample.pixels for sample in samples]),
        captions=tuple(sample.caption for sample in samples),
        fps=torch.tensor([sample.fps for sample in samples], dtype=torch.float32),
        keys=tuple(sample.key for sample in samples),
    )
