"""Rao-Kupper model: strengths of systems from pairwise votes with ties (Rao and Kupper 1967).

System i beats j with probability π_i / (π_i + θ π_j), and they tie with probability
(θ² - 1) π_i π_j / ((π_i + θ π_j)(π_j + θ π_i)), θ ≥ 1. Written with a = log π and τ = log θ, the log-likelihood is
concave, and Newton's method finds its only maximum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RIDGE = 1e-3
_MAX_STEPS = 100
_TOLERANCE = 1e-9


@dataclass(frozen=True, kw_only=True)
class RaoKupper:
    """A fitted model.

    Attributes:
        strengths: log-abilities [systems], whose sum is 0; a difference of 1 is odds of e to 1 without ties.
        tie_threshold: τ = log θ, 0 or more; 0 means that ties do not occur.
    """

    strengths: NDArray[np.float64]
    tie_threshold: float

    def win_probability(self, first: int, second: int) -> float:
        """Return the probability that the first system is preferred to the second, without ties."""
        return float(_sigmoid(self.strengths[first] - self.strengths[second] - self.tie_threshold))

    def tie_probability(self, first: int, second: int) -> float:
        """Return the probability of a tie."""
        return 1.0 - self.win_probability(first, second) - self.win_probability(second, first)


def fit_rao_kupper(wins: NDArray[np.float64], ties: NDArray[np.float64], *, ridge: float = _RIDGE) -> RaoKupper:
    """Fit strengths and the tie threshold by maximum likelihood with a small ridge on the strengths.

    Without the ridge there is no maximum when a system wins or loses every vote, or when systems were never compared.

    Args:
        wins: [systems, systems], how often the row's system was preferred to the column's. Weights may be fractions.
        ties: [systems, systems], symmetric: how often the two were called equal.
        ridge: weight of the penalty ridge · |a|² / 2, above 0.

    Raises:
        ValueError: the matrices are not square, negative, or of different sizes; ties are not symmetric.
    """
    _check(wins, ties, ridge)
    systems = len(wins)
    # With i < j only, each tie counts once.
    first, second = np.triu_indices(systems, k=1)
    won, lost, tied = wins[first, second], wins[second, first], ties[first, second]
    has_ties = bool(tied.sum() > 0)
    parameters = np.zeros(systems + 1)
    parameters[-1] = 0.5 if has_ties else 0.0
    contrast = np.zeros((len(first), systems))
    contrast[np.arange(len(first)), first], contrast[np.arange(len(first)), second] = 1.0, -1.0
    tau = np.ones((len(first), 1))
    # Both events as logistic regressions: "first wins" has the margin a_i - a_j - τ, "second wins" a_j - a_i - τ.
    design = np.concatenate((np.hstack((contrast, -tau)), np.hstack((-contrast, -tau))))
    weight = np.concatenate((won + tied, lost + tied))
    value = _objective(parameters, design, weight, tied.sum(), ridge)
    for _ in range(_MAX_STEPS):
        step = _newton_step(parameters, design, weight, tied.sum(), ridge, has_ties)
        scale = 1.0
        while scale > 1e-12:
            candidate = parameters + scale * step
            new_value = _objective(candidate, design, weight, tied.sum(), ridge)
            if new_value >= value:
                break
            scale /= 2.0
        else:
            break
        parameters, value = candidate, new_value
        if float(np.abs(scale * step).max()) < _TOLERANCE:
            break
    return RaoKupper(strengths=parameters[:-1] - parameters[:-1].mean(), tie_threshold=float(parameters[-1]))


def _objective(
    parameters: NDArray[np.float64],
    design: NDArray[np.float64],
    weight: NDArray[np.float64],
    num_ties: float,
    ridge: float,
) -> float:
    """Return the penalised log-likelihood; minus infinity where τ is not allowed."""
    tau = float(parameters[-1])
    if tau < 0.0 or (num_ties > 0 and tau <= 0.0):
        return -math.inf
    value = -float(weight @ np.logaddexp(0.0, -(design @ parameters)))
    value -= ridge / 2.0 * float(parameters[:-1] @ parameters[:-1])
    if num_ties > 0:
        value += float(num_ties) * (2.0 * tau + math.log1p(-math.exp(-2.0 * tau)))
    return value


def _newton_step(
    parameters: NDArray[np.float64],
    design: NDArray[np.float64],
    weight: NDArray[np.float64],
    num_ties: float,
    ridge: float,
    has_ties: bool,
) -> NDArray[np.float64]:
    probability = _sigmoid(design @ parameters)
    gradient = design.T @ (weight * (1.0 - probability))
    curvature = (design.T * (weight * probability * (1.0 - probability))) @ design
    gradient[:-1] -= ridge * parameters[:-1]
    curvature[np.arange(len(curvature) - 1), np.arange(len(curvature) - 1)] += ridge
    if has_ties:
        tau = float(parameters[-1])
        shrink = -math.expm1(-2.0 * tau)  # 1 - θ⁻²
        gradient[-1] += num_ties * 2.0 / shrink
        curvature[-1, -1] += num_ties * 4.0 * math.exp(-2.0 * tau) / shrink**2
        return np.asarray(np.linalg.solve(curvature, gradient))
    # Without ties the maximum lies at the border τ = 0.
    step = np.zeros_like(parameters)
    step[:-1] = np.linalg.solve(curvature[:-1, :-1], gradient[:-1])
    return step


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _check(wins: NDArray[np.float64], ties: NDArray[np.float64], ridge: float) -> None:
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1] or wins.shape != ties.shape or len(wins) < 2:
        raise ValueError(f"wins {wins.shape} and ties {ties.shape} must be square, equally large, and at least 2 x 2")
    if (wins < 0).any() or (ties < 0).any() or not np.allclose(ties, ties.T):
        raise ValueError("wins and ties must not be negative, and ties must be symmetric")
    if not ridge > 0.0:
        raise ValueError(f"ridge is {ridge}; expected a number above 0")
