import math

import numpy as np
import pytest

from tests.unit.evaluation.metrics.frames import frames_of, moving_texture
from videocrafter.evaluation.metrics.motion import DynamicDegree, fastest_mean, is_amplitude_right, mean_magnitude


def test_magnitude_is_the_mean_length():
    flow = np.zeros((1, 4, 2), np.float32)
    flow[0, 0] = (3, 4)
    assert mean_magnitude(flow) == pytest.approx(5 / 4)


def test_the_fastest_twentieth_is_averaged():
    flow = np.zeros((10, 10, 2), np.float32)
    flow[0, :5, 0] = (10, 20, 30, 40, 50)
    assert fastest_mean(flow) == pytest.approx(30)


def test_amplitude_is_right_on_the_asked_side_of_the_threshold():
    assert is_amplitude_right(2.1, "large", 2.0) == is_amplitude_right(2.0, "slow", 2.0) == 1
    assert is_amplitude_right(2.0, "large", 2.0) == is_amplitude_right(2.1, "slow", 2.0) == 0


def degree(step: int, fps: float, count: int = 8) -> float:
    running = DynamicDegree(fps)
    for frame in frames_of(moving_texture(step, count), fps=fps):
        running.add(frame)
    return running.value()


def test_fast_videos_are_dynamic_and_slow_ones_are_not():
    assert degree(step=9, fps=8) == 1
    assert degree(step=3, fps=8) == 0
    # At 24 frames per second every third frame counts, so the same step per frame is three times the motion.
    assert degree(step=3, fps=24) == 1
    assert math.isnan(degree(step=3, fps=8, count=1))
