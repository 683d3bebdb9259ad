import numpy as np
import pytest

from videocrafter.evaluation.metrics.distances import (
    ChosenRows,
    Gaussian,
    TooFewSamplesError,
    cubic_kernel,
    extrapolated_frechet_distance,
    frechet_distance,
    gaussian_of,
    kernel_distance,
    moments,
)

RANDOM = np.random.default_rng(0)


def normal(count: int, size: int = 3, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return (shift + scale * RANDOM.standard_normal((count, size))).astype(np.float32)


def test_the_frechet_distance_of_diagonal_gaussians_has_a_closed_form():
    one = Gaussian(mean=np.array([0.0, 1.0]), covariance=np.diag([1.0, 4.0]), count=9)
    other = Gaussian(mean=np.array([3.0, 1.0]), covariance=np.diag([9.0, 1.0]), count=9)
    # |shift|² + sum of (σ₁ - σ₂)²
    assert frechet_distance(one, other) == pytest.approx(9 + (1 - 3) ** 2 + (2 - 1) ** 2)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_of_coupled_gaussians_uses_the_matrix_root():
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    one = Gaussian(mean=np.zeros(2), covariance=turn @ np.diag([1.0, 4.0]) @ turn.T, count=9)
    other = Gaussian(mean=np.zeros(2), covariance=turn @ np.diag([9.0, 1.0]) @ turn.T, count=9)
    assert frechet_distance(one, other) == pytest.approx((1 - 3) ** 2 + (2 - 1) ** 2)


def test_chosen_rows_need_no_copy_of_the_features():
    features = normal(1300, 2)
    kept = np.flatnonzero(np.arange(1300) % 3)
    chosen = ChosenRows(features, kept)
    for expected, found in zip((features[kept[5:9]], features[kept]), (chosen[5:9], chosen[:]), strict=True):
        assert np.array_equal(expected, found)
    assert moments(chosen).covariance.tolist() == moments(features[kept]).covariance.tolist()
    assert kernel_distance(chosen, features) == kernel_distance(features[kept], features)


def test_moments_are_unbiased():
    found = moments(np.array([[0, 0], [2, 4]], np.float32))
    assert found.mean.tolist() == [1, 2]
    assert found.covariance.tolist() == [[2, 4], [4, 8]]  # divided by N - 1 = 1


def test_a_singular_covariance_says_how_many_videos_are_needed():
    with pytest.raises(TooFewSamplesError, match="singular covariance of 3 features; at least 4 videos are needed"):
        gaussian_of(normal(3))
    assert gaussian_of(normal(4)).count == 4


def test_extrapolation_removes_the_bias_of_few_samples():
    one, other = normal(400, 20), normal(400, 20)
    plain = frechet_distance(gaussian_of(one), gaussian_of(other))
    extrapolated = extrapolated_frechet_distance(one, other)
    assert plain > 0.4
    assert abs(extrapolated) < plain / 4
    assert extrapolated == extrapolated_frechet_distance(one, other)
    with pytest.raises(TooFewSamplesError, match="at least 22 videos"):
        extrapolated_frechet_distance(normal(21, 20), normal(21, 20))


def test_the_kernel_distance_is_the_unbiased_estimate():
    x, y = np.array([[1.0], [2.0]], np.float32), np.array([[0.0], [3.0]], np.float32)
    # k(a, b) = (ab + 1)³: within x 27, within y 1, between 1, 64, 1, 343.
    assert kernel_distance(x, y) == pytest.approx(27 + 1 - 2 * (1 + 64 + 1 + 343) / 4)
    assert cubic_kernel(np.array([[2.0, 4.0]]), np.array([[1.0, 1.0]])).item() == (6 / 2 + 1) ** 3
    with pytest.raises(TooFewSamplesError, match="at least 2"):
        kernel_distance(x[:1], y)


def test_the_kernel_distance_needs_no_large_blocks_and_is_centred_on_zero():
    values = [kernel_distance(normal(40), normal(40)) for _ in range(40)]
    assert abs(np.mean(values)) < 2 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0
    many, few = normal(1100), normal(5, shift=1)
    whole = np.concatenate([many, few]).astype(np.float64)
    kernel = cubic_kernel(whole, whole)
    a, b = kernel[:1100, :1100], kernel[1100:, 1100:]
    expected = (
        (a.sum() - np.trace(a)) / (1100 * 1099) + (b.sum() - np.trace(b)) / 20 - 2 * kernel[:1100, 1100:].mean()
    )
    assert kernel_distance(many, few) == pytest.approx(expected)
