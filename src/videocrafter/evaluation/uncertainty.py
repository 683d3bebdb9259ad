"""Uncertainty of scores: intervals over prompts, and paired differences between two sets of videos.

Videos of one prompt are not independent, so prompts are resampled, with all their videos.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 2000
_CONFIDENCE = 0.95
_CHUNK = 100
_SEED = 20231030
_GROUPS = 10

FEWEST_PROMPTS = 6
"""Prompts below which there is no verdict: with five, all differences have one sign by chance in 1 of 16 cases."""

ENOUGH_PROMPTS = 20
"""Prompts from which the percentile bootstrap holds what it promises. With fewer it is too narrow."""

# Two-sided 95 % quantiles of Student's t for 1 to 18 degrees of freedom.
_STUDENT_T = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
    2.120,
    2.110,
    2.101,
)


def student_t(count: int) -> float:
    """Return the 97.5 % quantile of Student's t for the mean of `count` values, 2 to 19."""
    return _STUDENT_T[count - 2]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score with its 95 % interval.

    Attributes:
        value: the score.
        low, high: bounds of the interval; None with fewer than two prompts.
        num_prompts: number of prompts, or of videos where prompts are unknown.
        num_videos: number of videos.
    """

    value: float
    low: float | None
    high: float | None
    num_prompts: int
    num_videos: int


@dataclass(frozen=True, kw_only=True)
class Difference(Estimate):
    """A paired difference of two sets, second minus first.

    Attributes:
        is_distinguishable: whether the interval excludes 0; never with fewer than `FEWEST_PROMPTS` prompts.
    """

    is_distinguishable: bool

    @property
    def verdict(self) -> str:
        """The direction of the difference, "not distinguishable", or that there are too few prompts to tell."""
        if self.num_prompts < FEWEST_PROMPTS:
            return f"no verdict with fewer than {FEWEST_PROMPTS} prompts"
        if not self.is_distinguishable:
            return "not distinguishable"
        return "higher" if self.value > 0 else "lower"


def mean_of_prompts(values: Mapping[Hashable, Sequence[float]]) -> Estimate:
    """Return the mean over prompts of the mean over their videos, with its interval over prompts.

    Args:
        values: values of the videos of each prompt; at least one prompt, none empty.
    """
    means = np.array([float(np.mean(of_prompt)) for of_prompt in values.values()])
    low, high = _interval(means)
    num_videos = sum(len(of_prompt) for of_prompt in values.values())
    return Estimate(value=float(means.mean()), low=low, high=high, num_prompts=len(means), num_videos=num_videos)


def paired_difference(
    first: Mapping[Hashable, Sequence[float]], second: Mapping[Hashable, Sequence[float]]
) -> Difference | None:
    """Return the mean difference over the prompts that both sets have, or None if they share none.

    Args:
        first, second: values of the videos of each prompt.
    """
    shared = [prompt for prompt in first if prompt in second]
    if not shared:
        return None
    differences = np.array([float(np.mean(second[prompt]) - np.mean(first[prompt])) for prompt in shared])
    low, high = _interval(differences)
    return Difference(
        value=float(differences.mean()),
        low=low,
        high=high,
        num_prompts=len(shared),
        num_videos=sum(len(first[prompt]) + len(second[prompt]) for prompt in shared),
        is_distinguishable=len(shared) >= FEWEST_PROMPTS
        and low is not None
        and high is not None
        and not low <= 0 <= high,
    )


def jackknife_interval(
    groups: Sequence[Hashable], estimate: Callable[[NDArray[np.intp]], float], value: float
) -> tuple[float | None, float | None]:
    """Return a 95 % interval of a score of a whole set, from leaving out a tenth of the prompts at a time.

    For scores other than means, such as distances, where a bootstrap would need thousands of evaluations and would
    count videos twice.

    Args:
        groups: the prompt of each video.
        estimate: returns the score of the videos at these positions.
        value: the score of all videos.

    Returns:
        The bounds; None with fewer than two prompts.
    """
    order = {prompt: number for number, prompt in enumerate(dict.fromkeys(groups))}
    parts = min(_GROUPS, len(order))
    if parts < 2:
        return None, None
    part_of = np.array([order[prompt] % parts for prompt in groups])
    left_out = np.array([estimate(np.flatnonzero(part_of != part)) for part in range(parts)])
    error = float(np.sqrt((parts - 1) / parts * ((left_out - left_out.mean()) ** 2).sum()))
    half = student_t(parts) * error
    return value - half, value + half


def resampled_interval(
    count: int, estimate: Callable[[NDArray[np.intp]], float], value: float
) -> tuple[float | None, float | None]:
    """Return a 95 % interval of a score that is quick to compute but no mean, such as a correlation or a ratio.

    Percentile bootstrap over prompts; the jackknife with fewer than `ENOUGH_PROMPTS`. The seed is fixed.

    Args:
        count: number of prompts, each with one value.
        estimate: returns the score of the prompts at these positions, which may repeat.
        value: the score of all prompts.

    Returns:
        The bounds; None with fewer than two prompts, or if the score is not defined for most of the resamples.
    """
    if count < 2:
        return None, None
    if count < ENOUGH_PROMPTS:
        low, high = jackknife_interval(range(count), estimate, value)
        return (None, None) if low is None or math.isnan(low) else (low, high)
    random = np.random.default_rng(_SEED)
    scores = np.array([estimate(random.integers(0, count, count)) for _ in range(_RESAMPLES)])
    scores = scores[np.isfinite(scores)]
    if len(scores) < _RESAMPLES / 2:
        return None, None
    return _percentiles(scores)


def median_interval(values: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Return an interval of a median: two of the values, between which it lies in at least 95 %.

    Their ranks follow from the binomial distribution, whatever the distribution of the values. A jackknife would
    cover only about 85 %, because a median changes in steps, and a bootstrap of few values about 90 %.

    Returns:
        The bounds; None with fewer than six values, of which even the extremes do not reach 95 %.
    """
    count, rank, outside = len(values), 0, 1
    while outside * 40 <= 2**count:  # 2.5 % on either side
        rank += 1
        outside += math.comb(count, rank)
    if rank == 0:
        return None, None
    ordered = np.sort(values)
    return float(ordered[rank - 1]), float(ordered[count - rank])


def _interval(values: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Return the interval of a mean: percentile bootstrap, or Student's t with fewer than `ENOUGH_PROMPTS` values.

    The seed is fixed, so that two runs agree.
    """
    count = len(values)
    if count < 2:
        return None, None
    if count < ENOUGH_PROMPTS:
        half = student_t(count) * float(values.std(ddof=1)) / math.sqrt(count)
        return float(values.mean()) - half, float(values.mean()) + half
    random = np.random.default_rng(_SEED)
    # In parts, because all resamples of a large set at once would not fit into memory.
    means = [values[random.integers(0, count, (_CHUNK, count))].mean(axis=1) for _ in range(0, _RESAMPLES, _CHUNK)]
    return _percentiles(np.concatenate(means))


def _percentiles(scores: NDArray[np.float64]) -> tuple[float, float]:
    tail = 100 * (1 - _CONFIDENCE) / 2
    low, high = np.percentile(scores, [tail, 100 - tail])
    return float(low), float(high)
