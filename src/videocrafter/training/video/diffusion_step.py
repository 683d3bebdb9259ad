"""What is drawn for each sample of a diffusion step: its noise level, and which of its conditions are left out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def draw_timesteps(
    count: int, num_levels: int, generator: torch.Generator, device: torch.device, power: float = 1.0
) -> Tensor:
    """A timestep in [0, num_levels) for each sample, [count].

    Stratified: together they cover all noise levels evenly, so that a batch's loss varies less; which sample has
    which is random.

    Args:
        power: of the uniform share of the schedule; above 1, little noise is drawn more often.
    """
    order = torch.randperm(count, generator=generator, device=device)
    offsets = torch.rand(count, generator=generator, device=device)
    shares = ((order + offsets) / count) ** power
    # An offset just below 1 is rounded up, and there is no level beyond the last.
    return (shares * num_levels).long().clamp(max=num_levels - 1)


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """Which samples go without caption or image, bool [B] each."""

    text: Tensor
    image: Tensor


def draw_dropped(
    count: int, generator: torch.Generator, device: torch.device, *, text: float, image: float, both: float
) -> Dropped:
    """Leave out conditions, for classifier-free guidance.

    Args:
        text, image, both: the share of samples without caption, without image, and without either.
    """
    draw_B = torch.rand(count, generator=generator, device=device)
    return Dropped(text=draw_B < text + both, image=(draw_B >= text) & (draw_B < text + both + image))
