"""Settings that save memory. All but two of them leave the video as it is, up to rounding.

This module does not import torch, so that the command line can describe settings before it loads anything heavy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from videocrafter.diffusion.guidance import check_number

Offload = Literal["none", "encoders", "all"]
OFFLOADS: tuple[Offload, ...] = ("none", "encoders", "all")


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """Ways in which a pipeline saves memory. Raises ValueError for a value that is not allowed.

    Attributes:
        frames_at_once: frames that the autoencoder decodes together, at least 1; None depends on their size. Exact.
        branches_apart: run the branches of guidance one after the other. Exact; what they share is computed for each.
        offload: networks whose layers leave the device while they do not compute: "encoders" (all but the denoiser)
            or "all". They wait in main memory or, if the device is the CPU, on disk. Exact.
        fp8_weights: store the denoiser's weights in 8 bits. Approximate.
        tiled_decoding: decode frames in overlapping tiles. Approximate.
    """

    frames_at_once: int | None = None
    branches_apart: bool = False
    offload: Offload = "none"
    fp8_weights: bool = False
    tiled_decoding: bool = False

    def __post_init__(self) -> None:
        if self.frames_at_once is not None:
            check_number("frames_at_once", self.frames_at_once, 1)
        if self.offload not in OFFLOADS:
            raise ValueError(f"offload must be {', '.join(OFFLOADS[:-1])} or {OFFLOADS[-1]}, but is {self.offload!r}")

    @property
    def is_exact(self) -> bool:
        """Whether the video is the same as without these settings, up to rounding."""
        return not (self.fp8_weights or self.tiled_decoding)

    @property
    def saves_nothing(self) -> bool:
        """Whether these are the settings of a pipeline that saves no memory."""
        return self == MemorySettings()

    def __str__(self) -> str:
        return ", ".join(self._parts()) or "nothing to save"

    def _parts(self) -> Iterator[str]:
        if self.frames_at_once is not None:
            plural = "" if self.frames_at_once == 1 else "s"
            yield f"decode {self.frames_at_once} frame{plural} at once"
        if self.tiled_decoding:
            yield "decode in tiles (approximate)"
        if self.branches_apart:
            yield "guidance branches one after the other"
        if self.offload != "none":
            yield "offload all networks" if self.offload == "all" else "offload all networks but the denoiser"
        if self.fp8_weights:
            yield "weights in 8 bits (approximate)"
