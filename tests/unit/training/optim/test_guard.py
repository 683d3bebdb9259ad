import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.training.config import GuardConfig
from videocrafter.training.optim.guard import StepGuard, Verdict


def judge_all(guard: StepGuard, norms: list[float]) -> list[Verdict]:
    return [guard.judge(norm) for norm in norms]


@given(st.lists(st.floats(min_value=1.0, max_value=2.0), min_size=1, max_size=60))
def test_usual_norms_are_good(norms: list[float]) -> None:
    assert set(judge_all(StepGuard(GuardConfig(spike=3.0), "low"), norms)) == {Verdict.GOOD}


@pytest.mark.parametrize("bad", [math.nan, math.inf, 10.0])
def test_skip_then_roll_back_then_stop(bad: float) -> None:
    guard = StepGuard(GuardConfig(spike=5.0, skips=2, rollbacks=1), "low")
    judge_all(guard, [1.0] * 30)
    assert judge_all(guard, [bad, 1.0, bad, bad, bad]) == [
        Verdict.SKIP,
        Verdict.GOOD,
        Verdict.SKIP,
        Verdict.SKIP,
        Verdict.ROLL_BACK,
    ]
    guard.went_back(1)
    assert judge_all(guard, [bad, bad, bad]) == [Verdict.SKIP, Verdict.SKIP, Verdict.STOP]
    assert str(guard.error(9, "1 returns")).startswith("stage 'low', step 9: the ")


def test_a_spike_is_measured_by_what_is_usual_and_not_before_that_is_known() -> None:
    guard = StepGuard(GuardConfig(spike=5.0), "low")
    assert judge_all(guard, [1.0, 100.0]) == [Verdict.GOOD, Verdict.GOOD]
    judge_all(guard, [1.0] * 30)
    assert judge_all(guard, [4.9, 5.1]) == [Verdict.GOOD, Verdict.SKIP]
    assert judge_all(StepGuard(GuardConfig(), "low"), [1.0] * 30 + [1e9]) == [Verdict.GOOD] * 31


def test_a_restored_guard_judges_as_the_first_would_have() -> None:
    guard, other = (
        StepGuard(GuardConfig(spike=5.0, skips=1), "low"),
        StepGuard(GuardConfig(spike=5.0, skips=1), "low"),
    )
    judge_all(guard, [1.0] * 30 + [9.0])
    other.load_state_dict(guard.state_dict())
    assert guard.judge(9.0) is other.judge(9.0) is Verdict.ROLL_BACK
