import math

import numpy as np
import pytest

from videocrafter.evaluation.metrics.blockiness import blockiness


def test_steps_at_block_borders_are_compared_with_steps_elsewhere():
    columns = np.repeat([0.0, 40.0], 8)  # one step of 40 at the only border; all others are 0
    luma = np.tile(columns, (8, 1)).astype(np.float32)
    assert blockiness(luma) == pytest.approx(41.0)  # along x alone: 8 rows have no border along y
    ramp = np.tile(np.arange(16, dtype=np.float32), (16, 1))
    assert blockiness(ramp) == pytest.approx(1.0)
    assert math.isnan(blockiness(ramp[:8, :8]))
