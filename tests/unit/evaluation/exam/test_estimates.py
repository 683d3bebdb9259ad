import math

import numpy as np
import pytest

from videocrafter.evaluation.exam import estimates
from videocrafter.evaluation.metrics.distances import TooFewSamplesError


def test_a_mean_and_a_share_have_the_bootstraps_interval() -> None:
    result = estimates.shares([True] * 75 + [False] * 25)
    assert result.value == 0.75
    half = 1.96 * math.sqrt(0.75 * 0.25 / 100)
    assert result.low == pytest.approx(0.75 - half, abs=0.015)
    assert result.high == pytest.approx(0.75 + half, abs=0.015)
    assert result.num_prompts == 100
    nothing = estimates.mean([])
    assert math.isnan(nothing.value)
    assert nothing.low is None


def test_a_ratio_is_that_of_the_means_and_pairs_its_prompts() -> None:
    real = np.linspace(1.0, 100.0, 50)
    same = estimates.ratio(0.5 * real, real)
    assert (same.value, same.low, same.high) == pytest.approx((0.5, 0.5, 0.5)), "no variation without differences"
    assert estimates.ratio([1.0, 3.0], [2.0, 6.0]).value == pytest.approx(0.5)


def test_a_correlation_has_an_interval_around_it() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=200)
    result = estimates.correlation(x, x + random.normal(size=200))
    # Fisher's z: tanh(atanh(r) ± 1.96 / sqrt(n - 3))
    z = math.atanh(result.value)
    assert result.low == pytest.approx(math.tanh(z - 1.96 / math.sqrt(197)), abs=0.04)
    assert result.high == pytest.approx(math.tanh(z + 1.96 / math.sqrt(197)), abs=0.04)
    constant = estimates.correlation(np.ones(30), x[:30])
    assert math.isnan(constant.value)
    assert constant.low is None
    few = estimates.correlation(x[:8], x[:8] + 0.1 * random.normal(size=8))
    assert few.low is not None
    assert few.low < few.value < few.high


def test_a_median() -> None:
    result = estimates.median([1.0, 2.0, 9.0] * 10)
    assert result.value == 2.0
    assert 1.0 <= result.low <= 2.0 <= result.high <= 9.0


@pytest.mark.parametrize("count", [7, 8, 12, 19, 60])
def test_intervals_of_a_median_cover_it_at_least_95_times_in_100(count: int) -> None:
    random = np.random.default_rng(5)
    found = [estimates.median(random.lognormal(size=count)) for _ in range(1000)]
    assert sum(one.low <= 1.0 <= one.high for one in found) >= 945  # of a jackknife about 850
    assert estimates.median(range(6)).low == 0.0
    assert estimates.median(range(5)).low is None


def test_a_frechet_distance_grows_with_the_shift_and_needs_more_videos_than_features() -> None:
    random = np.random.default_rng(0)
    real, other = (random.normal(size=(300, 4)).astype(np.float32) for _ in range(2))
    floor, shifted = estimates.frechet(other, real), estimates.frechet(other + 1.0, real)
    assert floor.value < 0.1
    assert shifted.value == pytest.approx(4.0, abs=0.8), "squared distance of the means"
    assert shifted.low < shifted.value < shifted.high
    with pytest.raises(TooFewSamplesError, match="at least 5 videos"):
        estimates.frechet(other[:4], real)
