import math

import numpy as np

from videocrafter.evaluation.metrics.sharpness import laplacian_variance


def test_the_value_follows_the_definition():
    luma = np.zeros((5, 5), np.float32)
    luma[2, 2] = 9.0
    # The 3 x 3 inner Laplacian: -36 at the point, 9 at its four neighbours, 0 at the corners; its mean is 0.
    assert laplacian_variance(luma) == (36**2 + 4 * 9**2) / 9
    assert laplacian_variance(np.full((4, 4), 100, np.float32)) == 0
    assert math.isnan(laplacian_variance(luma[:2]))
