import math

import numpy as np
import pytest

from videocrafter.evaluation.metrics.inception_score import ClassSums, inception_score, inception_score_of_splits


def of(*rows):
    return ClassSums.of(np.array(rows))


def test_certain_and_different_classes_score_their_number():
    assert inception_score(of((1, 0, 0), (0, 1, 0), (0, 0, 1))) == pytest.approx(3)
    assert inception_score(of((1, 0, 0), (1, 0, 0))) == pytest.approx(1)
    assert inception_score(of((0.5, 0.5), (0.5, 0.5))) == pytest.approx(1)


def test_the_score_follows_the_definition():
    rows = np.random.default_rng(0).dirichlet(np.ones(4), 6)
    divergence = (rows * np.log(rows / rows.mean(0))).sum(1).mean()
    whole = of(*rows[:2]) + of(*rows[2:])
    assert inception_score(whole) == pytest.approx(math.exp(divergence))
    assert math.isnan(inception_score(ClassSums(probabilities=np.zeros(4), negative_entropy=0.0, count=0)))


def test_sums_survive_as_a_row():
    sums = of((0.25, 0.75), (0.5, 0.5))
    again = ClassSums.from_row(sums.to_row())
    assert again.probabilities.tolist() == [0.75, 1.25]
    assert (again.negative_entropy, again.count) == (sums.negative_entropy, 2)


def test_splits_are_averaged():
    parts = [of((1, 0)), of((0, 1)), of((1, 0)), of((1, 0))]
    assert inception_score_of_splits(parts, splits=2) == pytest.approx((2 + 1) / 2)
    assert inception_score_of_splits(parts, splits=10) == pytest.approx(1)
