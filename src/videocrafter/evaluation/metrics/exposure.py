"""Exposure: pixels that are clipped to black or white, and mean brightness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Just inside the range, because codecs spread clipped areas over some levels.
_BLACK, _WHITE = 5.0, 250.0


def clipped_share(luma: NDArray[np.float32]) -> float:
    """Return the share of pixels at or beyond 5 and 250 of 255, in [0, 1]."""
    return float(((luma <= _BLACK) | (luma >= _WHITE)).mean())


def brightness(luma: NDArray[np.float32]) -> float:
    """Return mean luma divided by 255, in [0, 1]."""
    return float(luma.mean(dtype=np.float64)) / 255.0
