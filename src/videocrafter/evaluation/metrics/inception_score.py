"""The inception score of any classifier's probabilities, from sums: exp(mean KL(p(y|x) || p(y)))."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ClassSums:
    """Sums over frames from which the score follows exactly.

    Attributes:
        probabilities: sum of p(y|x) over frames, [C].
        negative_entropy: sum over frames of sum_y p log p, in nats.
        count: number of frames.
    """

    probabilities: NDArray[np.float64]
    negative_entropy: float
    count: int

    @classmethod
    def of(cls, probabilities: NDArray[np.floating]) -> ClassSums:
        """Return the sums of rows of probabilities [N, C]."""
        p = probabilities.astype(np.float64)
        return cls(probabilities=p.sum(0), negative_entropy=float(_p_log_p(p).sum()), count=len(p))

    def to_row(self) -> NDArray[np.float64]:
        """Return all sums as one vector [C + 2]."""
        return np.append(self.probabilities, [self.negative_entropy, self.count])

    @classmethod
    def from_row(cls, row: NDArray[np.float64]) -> ClassSums:
        """Return the sums of a vector that `to_row` made."""
        return cls(probabilities=row[:-2], negative_entropy=float(row[-2]), count=int(row[-1]))

    def __add__(self, other: ClassSums) -> ClassSums:
        return ClassSums(
            probabilities=self.probabilities + other.probabilities,
            negative_entropy=self.negative_entropy + other.negative_entropy,
            count=self.count + other.count,
        )


def inception_score(sums: ClassSums) -> float:
    """Return exp of the mean divergence of the frames' class distributions from their mean (Salimans et al., 2016).

    Between 1 (all frames alike, or no class certain) and the number of classes.
    """
    if sums.count == 0:
        return math.nan
    mean_negative_entropy = sums.negative_entropy / sums.count
    return math.exp(mean_negative_entropy - float(_p_log_p(sums.probabilities / sums.count).sum()))


def inception_score_of_splits(parts: Sequence[ClassSums], splits: int = 10) -> float:
    """Return the mean score over consecutive groups of videos, as published scores are computed.

    Args:
        parts: sums of each video, in order.
        splits: number of groups; fewer videos than groups make one group each.
    """
    splits = max(1, min(splits, len(parts)))
    edges = [round(index * len(parts) / splits) for index in range(splits + 1)]
    scores = []
    for start, end in itertools.pairwise(edges):
        total = parts[start]
        for index in range(start + 1, end):  # one after another: the parts may be on disk
            total = total + parts[index]
        scores.append(inception_score(total))
    return float(np.mean(scores))


def _p_log_p(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0.0)
