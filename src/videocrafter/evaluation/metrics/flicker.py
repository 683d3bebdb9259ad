"""Flicker: mean absolute difference of consecutive frames, as VBench scores it (arXiv 2311.17982)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def flicker_score(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Return (255 - mean |difference|) / 255 of two frames [H, W, 3]: 1 if nothing changes.

    VBench filters out moving videos first, because motion lowers the score, too.
    """
    difference = np.abs(after.astype(np.int16) - before.astype(np.int16))
    return (255.0 - float(difference.mean(dtype=np.float64))) / 255.0
