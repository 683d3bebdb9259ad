import math

import numpy as np
import pytest

from videocrafter.evaluation.study.calibration import calibrate, kendall_tau, ranks, within_prompts


def test_a_linear_relation_is_found_and_predicts_new_prompts():
    rng = np.random.default_rng(0)
    metrics = rng.normal(size=(60, 2)) * [1.0, 100.0]
    votes = 0.5 + 0.1 * metrics[:, 0] - 0.002 * metrics[:, 1]
    fit = calibrate(metrics, ["clip", "flow"], votes, [index // 3 for index in range(60)])
    assert fit.coefficients == {"clip": pytest.approx(0.1, rel=1e-3), "flow": pytest.approx(-0.002, rel=1e-3)}
    assert fit.intercept == pytest.approx(0.5, rel=1e-3)
    assert fit.spearman == pytest.approx(1.0, abs=1e-3)
    assert fit.num_prompts == 20


def test_levels_of_prompts_do_not_hide_a_metric_that_predicts_every_vote():
    rng = np.random.default_rng(3)
    prompts, quality = np.repeat(np.arange(40), 4), rng.normal(size=160)
    metrics = (quality + 10.0 * rng.normal(size=40)[prompts])[:, None]
    votes = within_prompts(0.5 + 0.1 * quality, prompts)
    assert abs(calibrate(metrics, ["clip"], votes, prompts).spearman) < 0.4
    assert calibrate(within_prompts(metrics, prompts), ["clip"], votes, prompts).spearman > 0.99
    # The mean of three equal numbers is not always that number; nothing of it remains.
    assert not within_prompts(np.full(3, 0.1), [0, 0, 0]).any()


def test_noise_does_not_correlate_with_held_out_votes():
    rng = np.random.default_rng(1)
    fit = calibrate(rng.normal(size=(200, 8)), list("abcdefgh"), rng.normal(size=200), [i // 2 for i in range(200)])
    assert abs(fit.pearson) < 0.25


def test_a_metric_that_knows_the_prompt_alone_fails_on_other_prompts():
    # Within each prompt, videos have the same votes: splitting videos instead of prompts would look perfect.
    rng = np.random.default_rng(2)
    prompts = np.repeat(np.arange(12), 5)
    codes, truth = rng.permutation(12), rng.normal(size=12)
    one_hot = np.eye(12)[codes][prompts]
    fit = calibrate(one_hot, [str(i) for i in range(12)], truth[prompts], prompts.tolist())
    assert math.isnan(fit.pearson) or fit.pearson < 0.3


def test_ranks_and_tau_with_equal_values():
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    # Three pairs: two agree, one is tied in y; tau-b = 2 / sqrt(3 · 2).
    assert kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0])) == pytest.approx(2 / math.sqrt(6))


def test_too_few_videos_are_counted():
    with pytest.raises(ValueError, match="rate at least 4 videos and 3 prompts"):
        calibrate(np.zeros((4, 2)), ["a", "b"], np.zeros(4), [0, 0, 1, 1])
    # Ten prompts are held out two at a time, which leaves eight videos to fit.
    with pytest.raises(ValueError, match="choose fewer metrics"):
        calibrate(np.zeros((10, 7)), list("abcdefg"), np.zeros(10), list(range(10)))
