import numpy as np
import pytest

from videocrafter.evaluation.metrics.exposure import brightness, clipped_share


def test_clipped_pixels_and_brightness_are_counted():
    luma = np.array([[0, 5, 6, 100], [249, 250, 255, 51]], np.float32)
    assert clipped_share(luma) == 4 / 8
    assert brightness(luma) == pytest.approx((0 + 5 + 6 + 100 + 249 + 250 + 255 + 51) / 8 / 255)
