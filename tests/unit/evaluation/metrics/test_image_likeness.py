import numpy as np
import pytest

from tests.unit.evaluation.metrics.frames import frames_of
from videocrafter.evaluation.metrics.image_likeness import covering, pixel_likeness


def test_the_image_is_cropped_to_the_frame_and_compared():
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 32:96] = 51  # the middle that a square frame shows
    frame = np.full((1, 128, 128, 3), 102, np.uint8)
    (only,) = frames_of(frame, image=image)
    assert pixel_likeness(only) == pytest.approx(1 - 0.2)
    (same,) = frames_of(np.full((1, 64, 64, 3), 51, np.uint8), image=image)
    assert pixel_likeness(same) == 1


def test_covering_never_leaves_a_border():
    image = np.full((30, 50, 3), 9, np.uint8)
    for size in ((64, 64), (10, 90), (31, 50)):
        covered = covering(image, *size)
        assert covered.shape == (*size, 3)
        assert (covered == 9).all()
