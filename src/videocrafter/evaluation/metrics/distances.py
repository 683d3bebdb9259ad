"""Distances of two sets of feature vectors: Fréchet and kernel distances, with unbiased estimators.

FVD is the Fréchet distance, and KVD the kernel distance, of I3D features of videos (Unterthiner et al., 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

_BLOCK = 512


class Features(Protocol):
    """Feature vectors [N, D]: an array, or rows on disk that are read in parts."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N and D."""

    def __len__(self) -> int: ...

    def __getitem__(self, chosen: Any, /) -> NDArray[Any]: ...


@dataclass(frozen=True)
class ChosenRows:
    """Some rows of features, without a copy.

    Attributes:
        features: all rows.
        positions: of the chosen ones.
    """

    features: Features
    positions: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of chosen rows and length of a row."""
        return len(self.positions), self.features.shape[1]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, chosen: Any) -> NDArray[Any]:
        """Return a copy of the rows at these places among the chosen ones."""
        return self.features[self.positions[chosen]]


class TooFewSamplesError(ValueError):
    """The estimate needs more samples. The message says how many."""


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Mean [D] and unbiased covariance [D, D] of N feature vectors."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    count: int


def gaussian_of(features: Features) -> Gaussian:
    """Return mean and unbiased covariance (divided by N - 1) of features [N, D].

    Raises:
        TooFewSamplesError: with N ≤ D the covariance is singular, so that the distance would mostly measure N.
    """
    count, size = features.shape
    if count <= size:
        raise TooFewSamplesError(
            f"{count} videos give a singular covariance of {size} features; at least {size + 1} videos are needed"
        )
    return moments(features)


def moments(features: Features) -> Gaussian:
    """Return mean and unbiased covariance of features [N, D] without checking N; N is at least 2."""
    count, size = features.shape
    mean = sum((block.sum(0) for block in _blocks(features)), np.zeros(size)) / count
    scatter = np.zeros((size, size))
    for block in _blocks(features):
        centred = block - mean
        scatter += centred.T @ centred
    return Gaussian(mean=mean, covariance=scatter / (count - 1), count=count)


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """Return |μ₁ - μ₂|² + Tr(C₁ + C₂ - 2 (C₁ C₂)^½) (Dowson and Landau, 1982)."""
    root = _symmetric_root(one.covariance)
    product = root @ other.covariance @ root
    eigenvalues = np.linalg.eigvalsh((product + product.T) / 2)
    cross = float(np.sqrt(np.maximum(eigenvalues, 0.0)).sum())
    shift = float(((one.mean - other.mean) ** 2).sum())
    traces = float(np.trace(one.covariance) + np.trace(other.covariance))
    return max(0.0, shift + traces - 2 * cross)


def extrapolated_frechet_distance(one: Features, other: Features, *, points: int = 5, seed: int = 0) -> float:
    """Return the Fréchet distance extrapolated to infinitely many samples (Chong and Forsyth, CVPR 2020).

    The distance of N samples is biased by about 1/N. It is computed for random subsets of increasing size, and a line
    through the values over 1/N is read at 0.

    Args:
        one, other: features [N, D] and [M, D].
        points: number of subset sizes, from the larger of D + 1 and half of the samples to all.
        seed: of the subsets.

    Raises:
        TooFewSamplesError: as `gaussian_of`, or too few samples for two different sizes.
    """
    gaussian_of(one), gaussian_of(other)
    most, least = min(len(one), len(other)), max(one.shape[1] + 1, min(len(one), len(other)) // 2)
    sizes = sorted({round(size) for size in np.linspace(least, most, points)})
    if len(sizes) < 2:
        raise TooFewSamplesError(f"{most} videos leave no smaller subset; at least {least + 1} videos are needed")
    random = np.random.default_rng(seed)
    values = []
    for size in sizes:
        chosen = [
            ChosenRows(features, np.sort(random.permutation(len(features))[:size])) for features in (one, other)
        ]
        values.append(frechet_distance(moments(chosen[0]), moments(chosen[1])))
    slope_and_intercept = np.polyfit(1.0 / np.array(sizes), values, 1)
    return float(slope_and_intercept[1])


def cubic_kernel(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (x·y / D + 1)³ for all pairs, [N, M]: the kernel of KID and KVD (Bińkowski et al., 2018)."""
    return (one @ other.T / one.shape[1] + 1.0) ** 3


def kernel_distance(
    one: Features,
    other: Features,
    kernel: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]] = cubic_kernel,
) -> float:
    """Return the unbiased estimate of the squared maximum mean discrepancy (Gretton et al., 2012, eq. 3).

    Unbiased for any number of samples, and therefore sometimes negative for equal distributions. Works in blocks, so
    that memory does not grow with the square of the number of samples.

    Raises:
        TooFewSamplesError: fewer than two samples.
    """
    for features in (one, other):
        if len(features) < 2:
            raise TooFewSamplesError(f"{len(features)} video; the kernel distance needs at least 2")
    within = [(_sum(x, x, kernel) - _diagonal(x, kernel)) / (len(x) * (len(x) - 1)) for x in (one, other)]
    between = _sum(one, other, kernel) / (len(one) * len(other))
    return within[0] + within[1] - 2 * between


def _blocks(features: Features) -> Iterator[NDArray[np.float64]]:
    """Yield rows in parts, because features may be on disk and more than fit into memory."""
    for start in range(0, len(features), _BLOCK):
        yield features[start : start + _BLOCK].astype(np.float64)


def _sum(one: Features, other: Features, kernel: Callable[..., NDArray[np.float64]]) -> float:
    return math.fsum(float(kernel(x, y).sum()) for x in _blocks(one) for y in _blocks(other))


def _diagonal(features: Features, kernel: Callable[..., NDArray[np.float64]]) -> float:
    return math.fsum(float(kernel(row[None], row[None])[0, 0]) for block in _blocks(features) for row in block)


def _symmetric_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    root: NDArray[np.float64] = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root
