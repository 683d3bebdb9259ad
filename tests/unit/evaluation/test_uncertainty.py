import numpy as np
import pytest

from videocrafter.evaluation.uncertainty import jackknife_interval, mean_of_prompts, paired_difference

RANDOM = np.random.default_rng(0)


def test_videos_count_by_prompt():
    estimate = mean_of_prompts({"a": [0.0, 1.0], "b": [1.0]})
    assert estimate.value == pytest.approx((0.5 + 1) / 2)
    assert (estimate.num_prompts, estimate.num_videos) == (2, 3)
    assert mean_of_prompts({"a": [0.0, 1.0]}).low is None


def test_intervals_cover_the_true_mean_about_95_times_in_100():
    covered = 0
    for _ in range(200):
        values = RANDOM.normal(0.3, 1.0, 60)
        estimate = mean_of_prompts({str(index): [value] for index, value in enumerate(values)})
        covered += estimate.low <= 0.3 <= estimate.high
    assert 180 <= covered <= 199


@pytest.mark.parametrize("count", [6, 12])
def test_few_prompts_find_differences_by_chance_in_about_5_of_100_cases(count):
    found = 0
    for _ in range(400):
        noise = {index: [value] for index, value in enumerate(RANDOM.normal(0, 1, count))}
        found += paired_difference({index: [0.0] for index in noise}, noise).is_distinguishable
    assert 8 <= found <= 34  # the percentile bootstrap finds 40 to 60 of 400 with these counts


def test_five_prompts_give_no_verdict_however_clear():
    five = {index: [0.0] for index in range(5)}
    found = paired_difference(five, {index: [10.0 + index / 10] for index in five})
    assert found.low > 0
    assert (found.is_distinguishable, found.verdict) == (False, "no verdict with fewer than 6 prompts")


def test_repeated_videos_of_a_prompt_do_not_narrow_the_interval():
    values = RANDOM.normal(0, 1, 20)
    once = mean_of_prompts({index: [value] for index, value in enumerate(values)})
    often = mean_of_prompts({index: [value] * 10 for index, value in enumerate(values)})
    assert (once.low, once.high) == pytest.approx((often.low, often.high))


def test_pairing_finds_small_differences_and_admits_none():
    levels = RANDOM.normal(0, 10, 40)
    first = {index: [level] for index, level in enumerate(levels)}
    better = {index: [level + RANDOM.normal(0.5, 0.3)] for index, level in enumerate(levels)}
    equal = {index: [level + RANDOM.normal(0, 0.3)] for index, level in enumerate(levels)}
    found = paired_difference(first, better)
    assert found.verdict == "higher"
    assert found.value == pytest.approx(0.5, abs=0.15)
    assert paired_difference(better, first).verdict == "lower"
    assert paired_difference(first, equal).verdict == "not distinguishable"
    assert paired_difference(first, {"other": [1.0]}) is None
    only_one = paired_difference(first, {0: [99.0]})
    assert only_one.verdict == "no verdict with fewer than 6 prompts"
    assert only_one.num_prompts == 1


def test_the_jackknife_of_a_mean_has_its_standard_error():
    values = RANDOM.normal(0, 1, 400)
    low, high = jackknife_interval(range(400), lambda kept: float(values[kept].mean()), float(values.mean()))
    expected = 2 * 2.262 * values.std(ddof=1) / 20
    assert high - low == pytest.approx(expected, rel=0.6)
    assert jackknife_interval(["a", "a"], lambda kept: 0.0, 0.0) == (None, None)
