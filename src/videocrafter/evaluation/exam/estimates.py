"""Scores of the exam with 95 % intervals over prompts. Each value belongs to one prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from videocrafter.evaluation.correlation import pearson
from videocrafter.evaluation.metrics.distances import TooFewSamplesError, frechet_distance, gaussian_of
from videocrafter.evaluation.uncertainty import (
    Estimate,
    jackknife_interval,
    mean_of_prompts,
    median_interval,
    resampled_interval,
)

Positions = NDArray[np.intp]


def mean(values: ArrayLike) -> Estimate:
    """Return the mean of one value per prompt, such as 0 and 1 for a share; NaN without values."""
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers):
        return Estimate(value=math.nan, low=None, high=None, num_prompts=0, num_videos=0)
    return mean_of_prompts({position: [value] for position, value in enumerate(numbers.tolist())})


def median(values: ArrayLike) -> Estimate:
    """Return the median of one value per prompt."""
    numbers = np.asarray(values, dtype=np.float64)
    low, high = median_interval(numbers)
    count = len(numbers)
    return Estimate(value=float(np.median(numbers)), low=low, high=high, num_prompts=count, num_videos=count)


def ratio(values: ArrayLike, reference: ArrayLike) -> Estimate:
    """Return the mean of values relative to the mean of the same prompts' reference values."""
    ours, theirs = (np.asarray(one, dtype=np.float64) for one in (values, reference))

    def estimate(kept: Positions) -> float:
        whole = float(theirs[kept].sum())
        return float(ours[kept].sum()) / whole if whole else math.nan

    return _resampled(len(ours), estimate)


def correlation(values: ArrayLike, others: ArrayLike) -> Estimate:
    """Return Pearson's correlation of two values per prompt."""
    x, y = (np.asarray(one, dtype=np.float64) for one in (values, others))
    return _resampled(len(x), lambda kept: pearson(x[kept], y[kept]))


def frechet(features: NDArray[np.float32], reference: NDArray[np.float32]) -> Estimate:
    """Return the Fréchet distance of features [N, D] and [M, D]. The interval is a jackknife's over the N prompts.

    Raises:
        TooFewSamplesError: there are not more videos than features.
    """
    real = gaussian_of(reference)

    def estimate(kept: Positions) -> float:
        return frechet_distance(gaussian_of(features[kept]), real)

    value = estimate(np.arange(len(features)))
    low: float | None
    high: float | None
    try:
        low, high = jackknife_interval(range(len(features)), estimate, value)
    except TooFewSamplesError:  # enough videos for the value, but not without a tenth of them
        low = high = None
    return Estimate(value=value, low=low, high=high, num_prompts=len(features), num_videos=len(features))


def shares(marks: Sequence[bool]) -> Estimate:
    """Return the share of correct videos."""
    return mean(np.asarray(marks, dtype=np.float64))


def _resampled(count: int, estimate: Callable[[Positions], float]) -> Estimate:
    value = estimate(np.arange(count))
    low, high = resampled_interval(count, estimate, value)
    return Estimate(value=value, low=low, high=high, num_prompts=count, num_videos=count)
