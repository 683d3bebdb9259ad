"""Guidance: what the network predicts under several conditions, put together to one prediction.

Predictions are ``[B, ...]`` (usually ``B C T H W``) and may be noise or velocity: guidance is linear, so
either gives the same sample. With T the text, I the image and 0 a null condition, the whole formula is

    e(0,0) + w_I [e(0,I) - e(0,0)] + w_T [e(T,I) - e(0,I)] + w_time [e(T,I) - e_still(T,I)]

where ``e_still`` is the prediction of each frame alone, with all temporal layers off. Usually w_I = w_T = w,
and what is left of the first three terms is ``e(0,0) + w [e(T,I) - e(0,0)]``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How far a prediction is pushed in each direction, and in which part of the sampling.

    Raises ValueError for a value that is not finite or outside of what stands below.

    Attributes:
        scale: w_T (and w_I, if that is None), 0 or more; 1 is no guidance.
        image_scale: w_I of a model with an image, 0 or more, if it is to differ from the text's (the formula
            with two scales is Brooks et al. 2023, "InstructPix2Pix", equation 3, with the image first).
        temporal_scale: w_time, 0 or more; 0 is no temporal guidance. More of it gives more of what only a
            network that sees all frames can know: motion, and frames that fit together.
        rescale: phi of :func:`rescale_guidance`, in [0, 1].
        interval: guidance acts on the steps that begin in this share of the sampling, (start, end) with
            0 <= start < end <= 1; outside of it the plain conditional prediction is used, which costs one
            call of the network (Kynkäänniemi et al. 2024, "Applying guidance in a limited interval").
    """

    scale: float = 1.0
    image_scale: float | None = None
    temporal_scale: float = 0.0
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_interval(self.interval)
        for name in ("scale", "image_scale", "temporal_scale"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"the guidance {name} must be 0 or more, but is {value:g}")

    def acts_at(self, share: float) -> bool:
        """Whether a step that begins at this share of the sampling, in [0, 1), is guided."""
        start, end = self.interval
        return start <= share < end

    @property
    def separates_image(self) -> bool:
        """Whether text and image have scales of their own, so that e(0,I) is needed."""
        return self.image_scale is not None and self.image_scale != self.scale

    def combine(
        self,
        full: Tensor,
        unconditional: Tensor | None = None,
        image_only: Tensor | None = None,
        still: Tensor | None = None,
    ) -> Tensor:
        """One prediction from e(T,I), e(0,0), e(0,I) and e_still(T,I); a term without its prediction is left out."""
        guided = full
        if unconditional is not None and image_only is not None and self.image_scale is not None:
            guided = classifier_free_guidance(image_only, unconditional, self.image_scale)
            guided = guided + self.scale * (full - image_only)
        elif unconditional is not None:
            guided = classifier_free_guidance(full, unconditional, self.scale)
        if still is not None:
            guided = guided + self.temporal_scale * (full - still)
        return guided if guided is full else rescale_guidance(guided, full, self.rescale)


def check_interval(interval: tuple[float, float]) -> None:
    """Raise ValueError unless 0 <= start < end <= 1."""
    start, end = interval
    if not 0 <= start < end <= 1:
        raise ValueError(
            f"the guidance interval must be two shares of the steps with 0 <= start < end <= 1, but is"
            f" {start:g} ... {end:g}"
        )


def classifier_free_guidance(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """``uncond + scale * (cond - uncond)`` (Ho & Salimans 2022); a scale of 1 is no guidance at all.

    ``uncond`` is the prediction for the empty or the negative prompt.
    """
    return uncond + scale * (cond - uncond)


def rescale_guidance(guided: Tensor, cond: Tensor, phi: float) -> Tensor:
    """Pull the spread of a guided prediction back towards that of the conditional one.

    Strong guidance inflates the standard deviation and over-exposes the video. ``phi = 1`` restores each
    sample's own standard deviation, ``phi = 0`` changes nothing, values between mix the two (Lin et al. 2023,
    "Common diffusion noise schedules and sample steps are flawed", section 3.4; they use 0.7). Raises
    ValueError for phi outside [0, 1].
    """
    if not 0 <= phi <= 1:
        raise ValueError(f"guidance rescale (phi) must lie in [0, 1], but is {phi}")
    if phi == 0:
        return guided
    dims = tuple(range(1, guided.ndim))
    factor = cond.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True)
    return guided * (phi * factor + (1 - phi))
