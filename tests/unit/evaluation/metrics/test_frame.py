import numpy as np
import pytest

from tests.unit.evaluation.metrics.frames import frames_of, moving_texture
from videocrafter.evaluation.metrics.frame import FLOW_SHORT_SIDE
from videocrafter.evaluation.metrics.motion import mean_magnitude


def test_frames_know_their_neighbour_and_forget_older_ones():
    frames = list(frames_of(np.zeros((3, 4, 4, 3), np.uint8)))
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert frames[2].previous is frames[1]
    assert frames[1].previous is None  # forgotten when the third frame arrived
    assert all(frame.first is frames[0] for frame in frames)


def test_flow_has_one_scale_for_all_sizes():
    magnitudes = []
    for size, step in ((256, 4), (128, 2)):
        *_, frame = frames_of(moving_texture(step, 2, size))
        assert min(frame.small_rgb.shape[:2]) == FLOW_SHORT_SIDE
        magnitudes.append(mean_magnitude(frame.flow()[0]))
    assert magnitudes == pytest.approx([4, 4], rel=0.1)


def test_luma_weighs_the_colours():
    (frame,) = frames_of(np.array([[[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]]], np.uint8))
    assert frame.luma[0] == pytest.approx([76.245, 149.685, 29.07, 255.0])
