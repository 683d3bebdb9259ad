import numpy as np
import pytest

from videocrafter.evaluation.study.resampling import bootstrap_weights, interval


def test_prompts_are_drawn_whole_and_raters_within():
    prompts = [0, 0, 0, 1, 1, 1]
    drawn = np.array(list(bootstrap_weights(prompts, draws=400)))
    assert (drawn.sum(axis=1) == 6).all()
    first = drawn[:, :3].sum(axis=1)
    assert set(first) == {0, 3, 6}  # a prompt comes with all of its votes, or not at all
    assert first.mean() == pytest.approx(3.0, abs=0.3)
    assert len({tuple(row) for row in drawn}) > 50
    assert np.array_equal(drawn, np.array(list(bootstrap_weights(prompts, draws=400))))


def test_intervals_cover_as_often_as_they_say():
    # Prompts differ more than raters: an interval over votes alone would be far too narrow.
    rng = np.random.default_rng(0)
    covered = 0
    prompts = np.repeat(np.arange(30), 4)
    for trial in range(60):
        votes = (rng.normal(size=30)[prompts] + 0.3 * rng.normal(size=120)) + 5.0
        means = [
            weights @ votes / weights.sum() for weights in bootstrap_weights(prompts.tolist(), draws=200, seed=trial)
        ]
        low, high = interval(means, 30)
        covered += low <= 5.0 <= high
    assert 50 <= covered <= 60


def test_intervals_of_few_prompts_are_wide_enough():
    rng = np.random.default_rng(1)
    covered = 0
    prompts = np.repeat(np.arange(6), 4)
    for trial in range(100):
        votes = (rng.normal(size=6)[prompts] + 0.3 * rng.normal(size=24)) + 5.0
        means = [
            weights @ votes / weights.sum() for weights in bootstrap_weights(prompts.tolist(), draws=100, seed=trial)
        ]
        low, high = interval(means, 6)
        covered += low <= 5.0 <= high
    assert covered >= 87  # percentile intervals cover about 85


def test_nothing_known_is_nan():
    assert np.isnan(interval([float("nan")] * 3, 30)).all()
