import math

import numpy as np
import pytest

from tests.unit.evaluation.metrics.frames import frames_of
from videocrafter.evaluation.metrics.whole_clip import ScoreOfClip, dover_scores


def test_only_the_first_frames_are_kept():
    lengths = []

    def network(frames):
        lengths.append(len(frames))
        return np.ones(1, np.float32)

    running = ScoreOfClip(network, lambda output: float(output[0]), most=3)
    for frame in frames_of(np.zeros((5, 2, 2, 3), np.uint8)):
        running.add(frame)
    assert running.value() == 1
    assert lengths == [3]


def test_dover_is_calibrated_as_in_evalcrafter():
    aesthetic, technical = dover_scores(np.array([0.1253, -0.0758 + 0.0129]))
    assert aesthetic == pytest.approx(50)
    assert technical == pytest.approx(100 / (1 + math.exp(-1)))
