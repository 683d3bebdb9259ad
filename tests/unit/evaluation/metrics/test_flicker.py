import numpy as np
import pytest

from videocrafter.evaluation.metrics.flicker import flicker_score


def test_the_score_is_the_complement_of_the_mean_difference():
    before = np.zeros((2, 2, 3), np.uint8)
    after = before.copy()
    after[0, 0] = 255
    assert flicker_score(before, before) == 1
    assert flicker_score(before, after) == flicker_score(after, before) == pytest.approx(0.75)
