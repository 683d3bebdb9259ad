"""Classifier-free guidance, and the rescaling that tames it.

Predictions are ``[B, ...]`` (usually ``B C T H W``) and may be noise or velocity: guidance is linear, so
either gives the same sample.
"""

from __future__ import annotations

from torch import Tensor


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
