"""Degradation of clean clips, so that the judge does not expect the pictures of a renderer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """Amounts of degradation. Contrast, tint, blotches and noise always vary a little.

    Attributes:
        blurred_share: share of the clips that are blurred.
        smallest_side: side to which the most blurred clips are reduced, as a fraction of their own.
        recoloured_share: share of the clips whose hues are turned by any angle and whose saturation varies from none
            to a little more than before. With all of them, colours say nothing about the subject.
        brightness: largest change of the brightness, in units of pixels from -1 to 1.
    """

    blurred_share: float = 0.5
    smallest_side: float = 0.35
    recoloured_share: float = 0.0
    brightness: float = 0.12

    def __post_init__(self) -> None:
        for name in ("blurred_share", "recoloured_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a share from 0 to 1")
        if not 0.0 < self.smallest_side <= 0.85:
            raise ValueError(f"smallest_side is {self.smallest_side}, expected a fraction above 0, at most 0.85")
        if self.brightness < 0.0:
            raise ValueError(f"brightness is {self.brightness}, expected 0 or more")


def degrade(pixels: Tensor, generator: torch.Generator, amount: Degradation) -> Tensor:
    """Degrade clean clips [B, T, 3, H, W] in [-1, 1] as a generator would: blur, colours, blotches, noise."""
    batch, _, _, height, width = pixels.shape

    def amounts(largest: float, *shape: int) -> Tensor:
        return largest * torch.rand((batch, *shape), generator=generator).view(batch, *shape)

    if amount.recoloured_share:
        pixels = _recoloured(pixels, generator, amount.recoloured_share)
    blurred = torch.rand(batch, generator=generator) < amount.blurred_share
    span = 0.85 - amount.smallest_side
    fractions = amount.smallest_side + span * torch.rand(batch, generator=generator)
    sides = [max(1, int(height * float(fraction))) for fraction in fractions]
    pixels = torch.stack(
        [blur(clip, side) if bool(soft) else clip for clip, side, soft in zip(pixels, sides, blurred, strict=True)]
    )
    contrast = 1.0 + amounts(0.3, 1, 1, 1, 1) - 0.15
    brightness = amounts(2.0 * amount.brightness, 1, 1, 1, 1) - amount.brightness
    tint = brightness + amounts(0.16, 1, 3, 1, 1) - 0.08
    pixels = pixels * contrast + tint
    still_blotches = torch.randn(batch, 1, 3, 8, 8, generator=generator)
    moving_blotches = torch.randn(batch, pixels.shape[1], 3, 8, 8, generator=generator)
    blotches = amounts(0.12, 1, 1, 1, 1) * still_blotches + amounts(0.10, 1, 1, 1, 1) * moving_blotches
    pixels = pixels + functional.interpolate(
        blotches.flatten(0, 1), (height, width), mode="bilinear", align_corners=False
    ).view_as(pixels)
    strength = (amounts(0.3, 1, 1, 1, 1) - 0.15).clamp(min=0.0)
    pixels = pixels + strength * torch.randn(pixels.shape, generator=generator)
    return pixels.clamp(-1.0, 1.0)


def blur(clip: Tensor, side: int) -> Tensor:
    """Shrink a clip [T, 3, H, W] to `side` pixels and enlarge it again."""
    small = functional.interpolate(clip, (side, side), mode="bilinear", antialias=True)
    return functional.interpolate(small, clip.shape[-2:], mode="bicubic", align_corners=False)


def _recoloured(pixels: Tensor, generator: torch.Generator, share: float) -> Tensor:
    """Turn hues about the grey axis by any angle, and scale saturations by 0 to 1.2, in a share of the clips."""
    batch = len(pixels)
    chosen = torch.rand(batch, generator=generator) < share
    angles = 2.0 * math.pi * torch.rand(batch, generator=generator)
    saturations = 1.2 * torch.rand(batch, generator=generator)
    grey = torch.full((3, 3), 1.0 / 3.0)
    # Rodrigues' rotation about (1, 1, 1) / sqrt(3). The component along that axis, grey, is unchanged.
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3.0)
    cosines, sines = (saturations * f(angles) for f in (torch.cos, torch.sin))
    turns = grey + cosines.view(-1, 1, 1) * (torch.eye(3) - grey) + sines.view(-1, 1, 1) * cross
    turns = torch.where(chosen.view(-1, 1, 1), turns, torch.eye(3))
    return torch.einsum("bij,btjhw->btihw", turns, pixels)
