import numpy as np
import pytest

from tests.unit.evaluation.metrics.frames import frames_of, moving_texture
from videocrafter.evaluation.metrics.warping import occluded, warping_error


def test_the_error_is_the_mean_square_over_visible_pixels():
    before = np.full((8, 8, 3), 51, np.uint8)
    after = np.full((8, 8, 3), 102, np.uint8)
    still = np.zeros((8, 8, 2), np.float32)
    assert warping_error(before, after, still, still) == pytest.approx(0.2**2)
    # A pixel whose flow back does not return is occluded, and its error is left out.
    after[4, 4] = 255
    back = still.copy()
    back[4, 4] = (3, 0)
    assert occluded(still, back).sum() == 1
    assert warping_error(before, after, still, back) == pytest.approx(0.2**2)
    everywhere = np.full_like(still, 3)
    assert np.isnan(warping_error(before, after, everywhere, everywhere))


def test_motion_boundaries_are_occluded():
    forward = np.zeros((8, 8, 2), np.float32)
    forward[:, 4:, 0] = 1
    assert occluded(forward, -forward)[:, 3:5].all()
    assert not occluded(forward, -forward)[:, :2].any()


def test_motion_that_flow_explains_is_no_error_and_a_flash_is():
    moving = moving_texture(5, 3)
    flashing = moving.copy()
    flashing[1] = (flashing[1] * 0.5).astype(np.uint8)
    errors = []
    for video in (moving, flashing):
        _, frame = frames_of(video[:2])
        errors.append(warping_error(video[0], video[1], *frame.flow()))
    assert errors[0] < 1e-3 < 1e-2 < errors[1]
