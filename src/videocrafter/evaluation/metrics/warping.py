"""Warping error: the change that motion does not explain, with occluded pixels left out (Lai et al., ECCV 2018)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from videocrafter.evaluation.metrics.optical_flow import warp


def warping_error(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    forward: NDArray[np.float32],
    backward: NDArray[np.float32],
) -> float:
    """Return the mean squared difference of a frame and the next one warped onto it, over visible pixels.

    Args:
        before, after: frames [H, W, 3] uint8.
        forward, backward: flow [H, W, 2] from `before` to `after`, and back.

    Returns:
        Mean of squared differences of colours in [0, 1]; NaN if every pixel is occluded.
    """
    warped, inside = warp(after, forward)
    visible = inside & ~occluded(forward, backward)
    if not visible.any():
        return math.nan
    squares = (warped - before) ** 2
    per_pixel = squares[..., 0] + squares[..., 1] + squares[..., 2]
    return float(per_pixel[visible].mean(dtype=np.float64)) / (3 * 255.0**2)


def occluded(forward: NDArray[np.float32], backward: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where pixels of the first frame have no counterpart in the second, [H, W] (Sundaram et al., ECCV 2010).

    Forward flow f and backward flow b at the target must cancel: |f + b|² > 0.01 (|f|² + |b|²) + 0.5 is occluded.
    Motion boundaries, |∇u|² + |∇v|² > 0.01 |f|² + 0.002, count as occluded, too.
    """
    returned, _ = warp(backward, forward)
    length = _squared_length(forward)
    mismatch = _squared_length(forward + returned)
    gradient = sum(np.gradient(forward[..., axis], axis=way) ** 2 for axis in (0, 1) for way in (0, 1))
    not_returning = mismatch > 0.01 * (length + _squared_length(returned)) + 0.5
    return np.asarray(not_returning | (gradient > 0.01 * length + 0.002), np.bool_)


def _squared_length(flow: NDArray[np.float32]) -> NDArray[np.float32]:
    # Several times faster than a sum over the short last axis.
    squared: NDArray[np.float32] = flow[..., 0] ** 2 + flow[..., 1] ** 2
    return squared
