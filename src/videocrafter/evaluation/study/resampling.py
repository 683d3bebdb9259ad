"""Bootstrap over prompts, and over the raters of each prompt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from videocrafter.evaluation.uncertainty import ENOUGH_PROMPTS, student_t

DRAWS = 1000


def bootstrap_weights(prompts: Sequence[int], *, draws: int = DRAWS, seed: int = 0) -> Iterator[NDArray[np.float64]]:
    """Yield weights [units] of resampled votes.

    A unit is everything that one rater said about one prompt. Each draw takes as many prompts as there are, with
    replacement, and within each prompt as many of its raters as it has, with replacement. Prompts come first because
    the question is whether other prompts would give the same result.

    Args:
        prompts: the prompt of each unit.
        draws: number of resamplings.
        seed: equal seeds give equal weights.
    """
    rng = np.random.default_rng(seed)
    names = np.unique(np.asarray(prompts))
    members = [np.flatnonzero(np.asarray(prompts) == name) for name in names]
    for _ in range(draws):
        weights = np.zeros(len(prompts))
        times = rng.multinomial(len(names), np.full(len(names), 1.0 / len(names)))
        for units, count in zip(members, times, strict=True):
            if count:
                weights[units] = rng.multinomial(count * len(units), np.full(len(units), 1.0 / len(units)))
        yield weights


def interval(values: Sequence[float] | NDArray[np.float64], num_prompts: int) -> tuple[float, float]:
    """Return the 95 % percentile interval of bootstrap values.

    With fewer than `ENOUGH_PROMPTS` prompts, percentiles are too narrow, because resampling n prompts underestimates
    their spread and ignores how uncertain it is. Then percentiles further out are taken, those of the normal quantile
    -t √(n / (n - 1)) with Student's t (the expanded percentile interval of Hesterberg, 2015).

    Args:
        values: bootstrap values; NaN is left out.
        num_prompts: number of prompts that were resampled.

    Returns:
        The bounds; NaN with fewer than two prompts or no known value.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if len(known) == 0 or num_prompts < 2:
        return (math.nan, math.nan)
    tail = 0.025
    if num_prompts < ENOUGH_PROMPTS:
        quantile = student_t(num_prompts) * math.sqrt(num_prompts / (num_prompts - 1))
        tail = math.erfc(quantile / math.sqrt(2)) / 2
    low, high = np.percentile(known, [100 * tail, 100 * (1 - tail)])
    return (float(low), float(high))
