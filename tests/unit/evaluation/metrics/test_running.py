import math

import numpy as np

from tests.unit.evaluation.metrics.frames import frames_of
from videocrafter.evaluation.metrics.running import Mapped, MeanOfFrames, MeanOfPairs, Running

PICTURES = np.zeros((5, 2, 2, 3), np.uint8)


def fed(running: Running, count: int = 5) -> float:
    for frame in frames_of(PICTURES[:count]):
        running.add(frame)
    return running.value()


def test_means_run_over_frames_or_pairs():
    assert fed(MeanOfFrames(lambda frame: frame.index)) == 2
    assert fed(MeanOfFrames(lambda frame: math.nan if frame.index > 1 else frame.index)) == 0.5  # NaN does not count
    assert fed(MeanOfPairs(lambda frame: frame.index)) == 2.5
    assert fed(Mapped(MeanOfPairs(lambda frame: frame.index), lambda mean: 10 - mean)) == 7.5


def test_one_frame_has_no_pairs():
    assert math.isnan(fed(MeanOfPairs(lambda frame: 1.0), count=1))
    assert math.isnan(fed(Mapped(MeanOfPairs(lambda frame: 1.0), lambda mean: 0.0), count=1))
