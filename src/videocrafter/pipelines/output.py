"""Output of a pipeline: frames in one of several forms, and the time that each phase took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from diffusers.utils import BaseOutput
from torch import Tensor

OutputType = Literal["np", "pt", "pil", "latent", "uint8"]
"""diffusers' forms of the frames, and bytes: see `VideoPipelineOutput`."""


@dataclass
class VideoPipelineOutput(BaseOutput):
    """N videos of T frames.

    Attributes:
        frames: by `output_type`: "np" float32 array [N, T, H, W, 3] from 0 to 1; "pt" float32 tensor
            [N, T, 3, H, W] from 0 to 1; "pil" a list of N lists of T images; "latent" tensor [N, C, T, h, w];
            "uint8" array [N, T, H, W, 3], which needs a quarter of the memory of "np".
        seeds: seed of each video; None if the caller passed a generator.
        seconds: wall-clock time of the phases "encode", "denoise" and "decode".
    """

    frames: Any
    seeds: tuple[int | None, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


def check_output_type(output_type: str) -> None:
    """Raise ValueError for an unknown `output_type`."""
    if output_type not in get_args(OutputType):
        raise ValueError(f"output_type must be one of {', '.join(get_args(OutputType))}, but is {output_type!r}")


def frames_as(pixels: Tensor, output_type: OutputType) -> Any:
    """Convert float pixels [N, T, 3, H, W] in about [-1, 1] to the form `output_type` (not "latent")."""
    pixels = pixels.float().clamp(-1.0, 1.0)
    if output_type == "pt":
        return (pixels + 1.0) / 2.0
    if output_type == "np":
        return ((pixels + 1.0) / 2.0).permute(0, 1, 3, 4, 2).cpu().numpy()
    bytes_last = ((pixels + 1.0) * 127.5).round().to(torch.uint8).permute(0, 1, 3, 4, 2).cpu().numpy()
    if output_type == "uint8":
        return bytes_last
    from PIL import Image

    return [[Image.fromarray(frame) for frame in video] for video in bytes_last]


class PhaseClock:
    """Measures the wall-clock time of named phases; synchronises the GPU before reading the clock."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the phase `name`."""
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
