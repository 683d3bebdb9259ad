"""Guidance: combine the network's predictions under several conditions into one.

Predictions are ``[B, ...]`` (usually ``B C T H W``), either noise or velocity: guidance is linear, so both give
the same sample. With T the text, I the image and 0 a null condition, the full formula is

    e(0,0) + w_I [e(0,I) - e(0,0)] + w_T [e(T,I) - e(0,I)] + w_time [e(T,I) - e_still(T,I)]

where ``e_still`` predicts each frame alone, with all temporal layers off. By default w_I = w_T = w, and the
first three terms reduce to ``e(0,0) + w [e(T,I) - e(0,0)]``.

This module does not import torch, so that the command line can check settings before it loads anything heavy.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_ONLY: Mapping[str, Any] = {"image_only": True}
"""Metadata of a setting that has no effect without an image condition."""


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Strength of each kind of guidance, and the steps on which it acts.

    Each field has the name of the pipelines' keyword argument. Raises ValueError for a value out of range.

    Attributes:
        guidance_scale: w_T (and w_I if `image_guidance_scale` is None), at least 0; 1 means no guidance.
        image_guidance_scale: w_I, at least 0, or None to use `guidance_scale` (Brooks et al. 2023,
            "InstructPix2Pix", equation 3, with the image first).
        temporal_guidance_scale: w_time, at least 0; 0 means off. Higher values favour motion and temporal
            consistency, which only a network that sees all frames can predict.
        guidance_rescale: phi of :func:`rescale_guidance`, between 0 and 1.
        guidance_interval: (start, end) with 0 <= start < end <= 1. Guidance acts on the steps that begin in this
            share of the sampling; the other steps use the conditional prediction, which needs one branch only
            (Kynkäänniemi et al. 2024, "Applying guidance in a limited interval").
        guidance_log_snr: (low, high) with low < high, or None for all. Guidance acts on the steps that begin at a
            log signal-to-noise ratio ln(abar / (1 - abar)) of at least low and below high. Unlike a share of the
            steps, it means the same for every scheduler and number of steps. A step is guided if both intervals
            contain its beginning.
    """

    guidance_scale: float = 1.0
    image_guidance_scale: float | None = field(default=None, metadata=IMAGE_ONLY)
    temporal_guidance_scale: float = 0.0
    guidance_rescale: float = 0.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    guidance_log_snr: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_number("guidance_scale", self.guidance_scale, 0)
        if self.image_guidance_scale is not None:
            check_number("image_guidance_scale", self.image_guidance_scale, 0)
        check_number("temporal_guidance_scale", self.temporal_guidance_scale, 0)
        check_number("guidance_rescale", self.guidance_rescale, 0, 1)
        # JSON turns a tuple into a list; frozen instances must compare equal after a round trip.
        object.__setattr__(self, "guidance_interval", _checked_interval(self.guidance_interval))
        if self.guidance_log_snr is not None:
            object.__setattr__(self, "guidance_log_snr", _checked_log_snr(self.guidance_log_snr))

    def acts_at(self, share: float, log_snr: float | None = None) -> bool:
        """Return whether a step is guided that begins at this share of the sampling, in [0, 1).

        `log_snr` is its log signal-to-noise ratio there; None ignores `guidance_log_snr`.
        """
        start, end = self.guidance_interval
        if self.guidance_log_snr is not None and log_snr is not None:
            low, high = self.guidance_log_snr
            return start <= share < end and low <= log_snr < high
        return start <= share < end

    @property
    def needs_unconditional(self) -> bool:
        """Whether the text or the image is guided, which takes an unconditional branch."""
        return max(self.guidance_scale, self.image_guidance_scale or 0.0) > 1.0

    @property
    def separates_image(self) -> bool:
        """Whether text and image have different scales, so that e(0,I) is needed."""
        return self.image_guidance_scale is not None and self.image_guidance_scale != self.guidance_scale

    @property
    def num_branches(self) -> int:
        """Conditions per guided step: 1 without guidance, 2 with it, 3 if the image has its own scale."""
        if not self.needs_unconditional:
            return 1
        # With w_I = 1 the formula no longer contains e(0,0).
        return 3 if self.separates_image and self.image_guidance_scale != 1 else 2

    def combine(
        self,
        full: Tensor,
        unconditional: Tensor | None = None,
        image_only: Tensor | None = None,
        still: Tensor | None = None,
    ) -> Tensor:
        """Combine e(T,I), e(0,0), e(0,I) and e_still(T,I); terms whose prediction is None are left out."""
        guided = full
        if unconditional is not None and image_only is not None and self.image_guidance_scale is not None:
            guided = classifier_free_guidance(image_only, unconditional, self.image_guidance_scale)
            guided = guided + self.guidance_scale * (full - image_only)
        elif unconditional is not None:
            guided = classifier_free_guidance(full, unconditional, self.guidance_scale)
        if still is not None:
            guided = guided + self.temporal_guidance_scale * (full - still)
        return guided if guided is full else rescale_guidance(guided, full, self.guidance_rescale)


def classifier_free_guidance(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Return ``uncond + scale * (cond - uncond)`` (Ho & Salimans 2022); a scale of 1 returns ``cond``.

    ``uncond`` is the prediction for the empty or the negative prompt.
    """
    return uncond + scale * (cond - uncond)


def rescale_guidance(guided: Tensor, cond: Tensor, phi: float) -> Tensor:
    """Pull the standard deviation of a guided prediction back towards that of the conditional one.

    Strong guidance inflates the standard deviation and over-exposes the video. ``phi = 1`` restores the standard
    deviation of each sample, ``phi = 0`` changes nothing, and values between interpolate (Lin et al. 2023,
    "Common diffusion noise schedules and sample steps are flawed", section 3.4; they use 0.7).
    """
    if phi == 0:
        return guided
    dims = tuple(range(1, guided.ndim))
    factor = cond.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True)
    return guided * (phi * factor + (1 - phi))


def check_number(name: str, value: Any, least: float, most: float = math.inf) -> None:
    """Raise ValueError unless `value` is a finite number between `least` and `most`."""
    allowed = f"at least {least:g}" if most == math.inf else f"between {least:g} and {most:g}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{name} must be a number, {allowed}, but is {value!r}")
    number = float(value)
    if not (math.isfinite(number) and least <= number <= most):
        raise ValueError(f"{name} must be {allowed}, but is {number:g}")


def _checked_log_snr(interval: Any) -> tuple[float, float]:
    try:
        low, high = (float(value) for value in interval)
    except (TypeError, ValueError):
        raise ValueError(f"guidance_log_snr must be two numbers, (low, high), but is {interval!r}") from None
    if not -math.inf < low < high < math.inf:
        raise ValueError(
            f"guidance_log_snr must be finite with low < high, but is ({low:g}, {high:g}); noise has about -10, clean"
            " latents about 10"
        )
    return low, high


def _checked_interval(interval: Any) -> tuple[float, float]:
    try:
        start, end = (float(share) for share in interval)
    except (TypeError, ValueError):
        raise ValueError(f"guidance_interval must be two numbers, (start, end), but is {interval!r}") from None
    if not 0 <= start < end <= 1:
        raise ValueError(
            f"guidance_interval must satisfy 0 <= start < end <= 1, but is ({start:g}, {end:g}); it is a share of"
            " the steps, such as (0.1, 0.8)"
        )
    return start, end
