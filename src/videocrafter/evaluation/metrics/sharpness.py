"""Sharpness: the variance of the Laplacian of luma. Blur lowers it; noise and compression raise it, too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def laplacian_variance(luma: NDArray[np.float32]) -> float:
    """Return the variance of the four-neighbour Laplacian over the inner pixels.

    Args:
        luma: [H, W] in [0, 255].

    Returns:
        Variance in squared grey levels; NaN if the frame has no inner pixels.
    """
    if min(luma.shape) < 3:
        return float("nan")
    centre = luma[1:-1, 1:-1]
    neighbours = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float(np.var(neighbours - 4 * centre, dtype=np.float64))
