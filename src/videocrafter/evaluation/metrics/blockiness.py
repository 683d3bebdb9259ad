"""Blockiness: steps across the 8 x 8 grid of codecs, relative to steps elsewhere (after Wang et al., ICIP 2002)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 8


def blockiness(luma: NDArray[np.float32]) -> float:
    """Return the mean absolute step across block borders divided by the mean step within blocks, averaged over axes.

    1 means that the grid is invisible; higher values mean visible blocks. A frame without any step within blocks and
    without blocks has 1. The grid must begin at the corner: scaled videos hide theirs.

    Args:
        luma: [H, W] in [0, 255].

    Returns:
        The ratio; NaN if the frame is smaller than two blocks along both axes.
    """
    ratios = [ratio for axis in (0, 1) if (ratio := _along(luma, axis)) is not None]
    return float(np.mean(ratios)) if ratios else float("nan")


def _along(luma: NDArray[np.float32], axis: int) -> float | None:
    steps = np.abs(np.diff(luma, axis=axis)).mean(axis=1 - axis, dtype=np.float64)
    is_border = (np.arange(len(steps)) + 1) % _BLOCK == 0
    if not is_border.any():
        return None
    border, inner = float(steps[is_border].mean()), float(steps[~is_border].mean())
    # One grey level of noise keeps the ratio finite in frames that are flat within blocks.
    return (border + 1.0) / (inner + 1.0)
