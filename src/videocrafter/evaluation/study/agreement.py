"""Krippendorff's alpha: agreement between raters, corrected for chance."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Level = Literal["nominal", "ordinal", "interval"]


def krippendorff_alpha(answers: NDArray[np.float64], level: Level) -> float:
    """Return Krippendorff's alpha (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability").

    1 is perfect agreement, 0 is what chance gives, and negative values are systematic disagreement.

    Args:
        answers: [raters, units] with one number per answer; NaN where a rater did not answer. Units with fewer than
            two answers do not count.
        level: "nominal" counts differences as equal, "ordinal" by rank, "interval" by squared distance.

    Returns:
        alpha, at most 1; NaN if no unit has two answers, or if all answers are the same value, which says nothing
        about agreement.
    """
    answers = np.asarray(answers, dtype=np.float64)
    if answers.ndim != 2:
        raise ValueError(f"answers have shape {answers.shape}, expected [raters, units]")
    present = ~np.isnan(answers)
    values = np.unique(answers[present])
    # How often each unit received each value: [units, values].
    counts = np.array([(answers == value).sum(axis=0) for value in values], dtype=np.float64).T.reshape(
        answers.shape[1], len(values)
    )
    per_unit = counts.sum(axis=1)
    counts, per_unit = counts[per_unit >= 2], per_unit[per_unit >= 2]
    if len(counts) == 0:
        return math.nan
    # Each unit contributes all ordered pairs of its answers, weighted so that every answer counts once.
    pairs = np.einsum("uc,uk->uck", counts, counts)
    pairs[:, np.arange(len(values)), np.arange(len(values))] -= counts
    coincidences = (pairs / (per_unit - 1.0)[:, None, None]).sum(axis=0)
    totals = coincidences.sum(axis=0)
    distance = _squared_distance(values, totals, level)
    expected = float(np.einsum("c,k,ck->", totals, totals, distance)) / (totals.sum() - 1.0)
    if expected == 0.0:
        return math.nan
    return 1.0 - float((coincidences * distance).sum()) / expected


def _squared_distance(values: NDArray[np.float64], totals: NDArray[np.float64], level: Level) -> NDArray[np.float64]:
    """Return the squared difference of every two values, [values, values]."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "interval":
        return np.square(values[:, None] - values[None, :])
    if level != "ordinal":
        raise ValueError(f"level is {level!r}; expected nominal, ordinal or interval")
    # Distance of ranks: the answers between two values, with half of those at both ends.
    middle = np.cumsum(totals) - totals / 2.0
    return np.square(middle[:, None] - middle[None, :])
