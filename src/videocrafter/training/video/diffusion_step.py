"""The random choices of a diffusion step: each sample's noise level, and the conditions that are dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from videocrafter.models.image_projector import ImageTokens
from videocrafter.training.video.phases import Phase


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Settings that every task of the video network has.

    Attributes:
        phase: selects the trainable parameters; see `phases.choose_trained`.
        text_dropout, image_dropout, both_dropout: share of samples without caption, without image, without either.
        timestep_power: timesteps are uniform numbers raised to this power. 1 is the paper's; a larger power trains
            more often on low noise.
        min_snr_gamma: weight the training loss by min-SNR-gamma (Hang et al. 2023), which balances noise levels;
            5 is usual. None weights all samples alike, as the paper does. Validation is never weighted.
        image_tokens: what a new image projector sees: "patches", all tokens of the image encoder, or "global", its
            class token alone, with which the paper compares (figure 5).
    """

    phase: Phase = "text_to_video"
    text_dropout: float = 0.1
    image_dropout: float = 0.0
    both_dropout: float = 0.0
    timestep_power: float = 1.0
    min_snr_gamma: float | None = None
    image_tokens: ImageTokens = "patches"

    def __post_init__(self) -> None:
        if self.phase not in get_args(Phase):
            raise ValueError(f"phase is {self.phase!r}, expected one of {', '.join(get_args(Phase))}")
        if self.image_tokens not in get_args(ImageTokens):
            raise ValueError(f"image_tokens is {self.image_tokens!r}; expected {' or '.join(get_args(ImageTokens))}")
        shares = (self.text_dropout, self.image_dropout, self.both_dropout)
        if min(shares) < 0 or sum(shares) > 1:
            raise ValueError(
                f"text_dropout, image_dropout and both_dropout are {shares}; expected shares that add up to 1 or less"
            )
        if self.timestep_power <= 0:
            raise ValueError(f"timestep_power is {self.timestep_power}; it must be above 0")
        if self.min_snr_gamma is not None and not self.min_snr_gamma > 0:
            raise ValueError(f"min_snr_gamma is {self.min_snr_gamma}; it must be above 0, or none for no weighting")


def draw_timesteps(count: int, num_levels: int, generator: torch.Generator, power: float = 1.0) -> Tensor:
    """Draw a timestep in [0, num_levels) for each sample, [count], on the generator's device.

    Draws are stratified: a batch covers all noise levels evenly, in random order, so that its loss varies less.

    Args:
        power: exponent of the uniform numbers; above 1, low noise levels are drawn more often.
    """
    order = torch.randperm(count, generator=generator, device=generator.device)
    offsets = torch.rand(count, generator=generator, device=generator.device)
    shares = ((order + offsets) / count) ** power
    # An offset just below 1 rounds up, past the last level.
    return (shares * num_levels).long().clamp(max=num_levels - 1)


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """Masks of the samples without caption and without image, bool [B] each."""

    text: Tensor
    image: Tensor


def draw_dropped(count: int, generator: torch.Generator, config: DiffusionConfig) -> Dropped:
    """Draw the conditions to drop for classifier-free guidance, on the generator's device."""
    text, image, both = config.text_dropout, config.image_dropout, config.both_dropout
    draw_B = torch.rand(count, generator=generator, device=generator.device)
    return Dropped(text=draw_B < text + both, image=(draw_B >= text) & (draw_B < text + both + image))
