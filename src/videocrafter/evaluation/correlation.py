"""Pearson's correlation."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Return Pearson's correlation of two series; NaN if either is constant or has fewer than 2 values.

    Raises ValueError if they differ in length.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(a) != len(b):
        raise ValueError(f"x has {len(a)} values and y {len(b)}, expected equally many")
    if len(a) < 2:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale > 0.0 else math.nan
