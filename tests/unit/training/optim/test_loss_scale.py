from __future__ import annotations

import math
from pathlib import Path

import pytest
from toy_run import toy_recipe
from toy_task import ToyTaskConfig

from videocrafter.training.config import GuardConfig
from videocrafter.training.optim.guard import NonFiniteError
from videocrafter.training.optim.loss_scale import LossScale
from videocrafter.training.run import train
from videocrafter.training.tracking.log import read_log


def test_the_scale_halves_at_an_overflow_and_doubles_after_many_good_steps() -> None:
    scale = LossScale(enabled=True)
    assert scale.overflowed(math.inf)
    assert scale.value == 2**15
    assert not any(scale.overflowed(1.0) for _ in range(1999))
    other = LossScale(enabled=True)
    other.load_state_dict(scale.state_dict())
    assert not other.overflowed(1.0)
    assert (other.value, scale.value) == (2**16, 2**15)


def test_at_a_scale_of_one_a_bad_gradient_is_bad_in_itself() -> None:
    scale = LossScale(enabled=True)
    assert [scale.overflowed(math.nan) for _ in range(17)] == [True] * 16 + [False]
    assert not LossScale().overflowed(math.nan)


def test_overflows_are_left_out_and_are_not_bad_steps(tmp_path: Path) -> None:
    """The loss is NaN in the first two steps under fp16, and finite again afterwards."""
    task = ToyTaskConfig(nan_at_step=0, nan_until_step=1)
    train(toy_recipe(task, precision="fp16", log_every=1, guard=GuardConfig(skips=0, rollbacks=0)), tmp_path)
    assert not (tmp_path / "bad_batches.jsonl").exists()
    lines = [line for line in read_log(tmp_path) if line["kind"] == "train" and line["stage"] == "low"]
    assert lines[2]["loss_scale"] == 2**14
    assert "skipped" not in lines[2]
    assert "loss" not in lines[0]
    assert all(math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"]) for line in lines[2:])


def test_what_no_scale_helps_is_bad(tmp_path: Path) -> None:
    task = ToyTaskConfig(nan_at_step=0, nan_until_step=10**6)
    with pytest.raises(NonFiniteError):
        train(toy_recipe(task, precision="fp16", guard=GuardConfig(skips=1, rollbacks=0)), tmp_path)
