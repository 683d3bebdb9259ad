import numpy as np
import pytest

from tests.unit.evaluation.metrics.frames import frames_of
from videocrafter.evaluation.metrics.image_likeness import covering, fitted, pixel_likeness


def test_the_image_is_fitted_to_the_frame_and_compared():
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 32:96] = 51  # the middle that a square frame shows
    crop, stretch, pad = (fitted(image, 128, 128, fit) for fit in ("crop", "stretch", "pad"))
    assert (crop[:, 1:-1] == 51).all()
    assert stretch[:, 0].max() == 0  # the whole image
    assert (pad[:32] == pad[96:]).all()
    assert (pad[0, 0, 0], pad[64, 64, 0], pad[64, 1, 0]) == (128, 51, 0)
    frame = np.full((1, 128, 128, 3), 102, np.uint8)
    (only,) = frames_of(frame, image=np.full_like(frame[0], 51))
    assert pixel_likeness(only) == pytest.approx(1 - 0.2)
    (same,) = frames_of(stretch[None], image=stretch)
    assert pixel_likeness(same) == 1


def test_covering_never_leaves_a_border():
    image = np.full((30, 50, 3), 9, np.uint8)
    for size in ((64, 64), (10, 90), (31, 50)):
        covered = covering(image, *size)
        assert covered.shape == (*size, 3)
        assert (covered == 9).all()
