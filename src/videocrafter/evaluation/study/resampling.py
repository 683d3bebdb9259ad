"""Bootstrap over prompts, and over the raters of each prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
_INTERVAL = (2.5, 97.5)


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


def interval(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % percentile interval of bootstrap values, leaving out NaN; NaN if nothing remains."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if len(known) == 0:
        return (float("nan"), float("nan"))
    low, high = np.percentile(known, _INTERVAL)
    return (float(low), float(high))
