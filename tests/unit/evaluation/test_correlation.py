import math

import numpy as np
import pytest

from videocrafter.evaluation.correlation import pearson


def test_pearson_against_numpy_and_in_the_limits() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=50), rng.normal(size=50)
    assert pearson(x.tolist(), y.tolist()) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert pearson([1, 2, 3], [10, 20, 30]) == pytest.approx(1.0)
    assert pearson([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert math.isnan(pearson([1, 1, 1], [1, 2, 3]))
    assert math.isnan(pearson([1], [1]))
    with pytest.raises(ValueError, match="x has 2 values and y 1"):
        pearson([1, 2], [1])
