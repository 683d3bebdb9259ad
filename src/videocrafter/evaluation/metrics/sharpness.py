"""Sharpness: variance of the Laplacian, and edge energy. Blur lowers them; noise and compression raise them, too."""

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


def edge_energy(luma: NDArray[np.float32]) -> float:
    """Return the mean absolute difference between horizontal plus that between vertical neighbours.

    Args:
        luma: [H, W] in [0, 255].

    Returns:
        Grey levels; NaN if the frame is less than two pixels wide or high.
    """
    if min(luma.shape) < 2:
        return float("nan")
    return float(sum(np.abs(np.diff(luma, axis=axis)).mean(dtype=np.float64) for axis in (0, 1)))
