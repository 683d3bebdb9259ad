"""Calibrate automatic metrics to votes: linear regression per aspect, judged on prompts that it has not seen.

EvalCrafter (Liu et al. 2023, section 4.3) fits one linear regression per aspect on part of its rated videos and
reports rank correlations on the rest. Here whole prompts are held out, five times, so that every video is predicted
once by a fit that knows neither it nor another video of its prompt.

A vote of a pair says nothing about the level of its prompt: votes of every prompt have the same mean. Metrics differ
between prompts, so both are compared within prompts there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videocrafter.evaluation.correlation import pearson

FOLDS = 5
_RIDGE = 1e-6
_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A linear regression from metrics to the votes on one aspect.

    Attributes:
        coefficients: by metric, per unit of the metric, fitted on all videos.
        intercept: in votes scaled to [0, 1]; about 0 for differences within prompts.
        pearson, spearman, kendall: correlations of held-out predictions with the votes; NaN if undefined.
        num_videos, num_prompts: size of the data.
        alone: Spearman's correlation of each metric by itself with the votes.
    """

    coefficients: dict[str, float]
    intercept: float
    pearson: float
    spearman: float
    kendall: float
    num_videos: int
    num_prompts: int
    alone: dict[str, float]


def calibrate(
    metrics: NDArray[np.float64],
    names: Sequence[str],
    votes: NDArray[np.float64],
    prompts: Sequence[int],
    *,
    seed: int = 0,
) -> Calibration:
    """Fit votes [videos] from metrics [videos, metrics], and predict each prompt from the others.

    Raises:
        ValueError: too few prompts or videos for the number of metrics; the message says how many are needed.
    """
    groups = np.unique(np.asarray(prompts))
    order = np.random.default_rng(seed).permutation(groups)
    folds = np.array_split(order, max(1, min(FOLDS, len(order))))
    held_out_each_time = [np.isin(np.asarray(prompts), fold) for fold in folds]
    needed = len(names) + 2
    smallest_fit = min((int(np.count_nonzero(~held_out)) for held_out in held_out_each_time), default=0)
    if len(groups) < 3 or smallest_fit < needed:
        raise ValueError(
            f"{len(votes)} rated videos of {len(groups)} prompts are too few to calibrate {len(names)} metrics; "
            f"rate at least {needed} videos and 3 prompts in addition to those held out, or "
            "choose fewer metrics with --metric"
        )
    predicted = np.full(len(votes), np.nan)
    for held_out in held_out_each_time:
        weights, intercept = _fit(metrics[~held_out], votes[~held_out])
        predicted[held_out] = metrics[held_out] @ weights + intercept
    weights, intercept = _fit(metrics, votes)
    return Calibration(
        coefficients={name: float(weight) for name, weight in zip(names, weights, strict=True)},
        intercept=intercept,
        pearson=pearson(predicted, votes),
        spearman=pearson(ranks(predicted), ranks(votes)),
        kendall=kendall_tau(predicted, votes),
        num_videos=len(votes),
        num_prompts=len(groups),
        alone={name: pearson(ranks(metrics[:, i]), ranks(votes)) for i, name in enumerate(names)},
    )


def within_prompts(values: NDArray[np.float64], prompts: Sequence[int]) -> NDArray[np.float64]:
    """Return values [videos, …] minus the mean of their prompt's videos."""
    result = values.astype(np.float64)
    for prompt in np.unique(np.asarray(prompts)):
        here = np.asarray(prompts) == prompt
        result[here] -= values[here].mean(axis=0)
    # Rounding errors of equal values are not a difference.
    result[np.abs(result) <= _ROUNDING * np.abs(values)] = 0.0
    return result


def _fit(metrics: NDArray[np.float64], votes: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Least squares on standardised metrics. The tiny ridge shares the weight of metrics that are equal."""
    mean, spread = metrics.mean(axis=0), metrics.std(axis=0)
    spread = np.where(spread > 0.0, spread, 1.0)
    x = (metrics - mean) / spread
    gram = x.T @ x + _RIDGE * len(x) * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ (votes - votes.mean())) / spread
    return weights, float(votes.mean() - mean @ weights)


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 1; equal values share the mean of their ranks."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[which])


def kendall_tau(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return Kendall's tau-b, which corrects for equal values; NaN if either is constant."""
    above = np.triu_indices(len(x), k=1)
    dx, dy = np.sign(x[:, None] - x[None, :])[above], np.sign(y[:, None] - y[None, :])[above]
    scale = math.sqrt(float(np.abs(dx).sum()) * float(np.abs(dy).sum()))
    return float(dx @ dy) / scale if scale > 0.0 else math.nan
