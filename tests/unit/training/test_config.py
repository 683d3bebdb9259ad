from __future__ import annotations

import dataclasses
import json

import pytest
from toy_run import toy_recipe
from toy_task import ToyTaskConfig

from videocrafter.training.config import OptimizerConfig, RecipeConfig, StageConfig
from videocrafter.training.resolved_config import changes, to_dict, to_json


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "Low Res"}, "stage.name"),
        ({"name": "3"}, "stage.name"),
        ({"num_steps": 0}, "stages.low.num_steps is 0"),
        ({"ema_decay": 1.0}, "stages.low.ema_decay"),
        ({"precision": "fp8"}, "'auto', 'fp32', 'bf16' or 'fp16'"),
        ({"checkpoint_every": -1}, "stages.low.checkpoint_every"),
        ({"keep_checkpoints": 0}, "stages.low.keep_checkpoints"),
        ({"task": "toy"}, "stages.low.task"),
        ({"keep_best": "means"}, "stages.low.keep_best is 'means', expected none, or a validation metric: mean"),
        (
            {"keep_best": "mean", "validate_every": 0},
            "keep_best is 'mean', expected stages.low.validate_every above 0",
        ),
    ],
)
def test_a_wrong_stage_is_refused(changed: dict[str, object], said: str) -> None:
    values: dict[str, object] = {"name": "low", "task": ToyTaskConfig(), "num_steps": 10, **changed}
    with pytest.raises(ValueError) as error:
        StageConfig(**values)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"lr": 0.0},
        {"betas": (0.9, 1.0)},
        {"warmup_steps": -1},
        {"decay": "sudden"},
        {"decay_share": 0.0, "decay": "linear"},
        {"decay_share": 1.5, "decay": "linear"},
        {"decay_share": 0.2},
        {"final_lr_fraction": 2.0},
        {"grad_clip": 0.0},
        {"accumulate": 0},
        {"name": "sgd"},
        {"weight_decay": -0.1},
        {"eps": 0.0},
    ],
)
def test_a_wrong_optimizer_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"optimizer.{next(iter(changed))} is"):
        OptimizerConfig(**changed)


def test_a_decay_share_without_a_decay_is_refused_with_the_shapes_to_choose_from() -> None:
    with pytest.raises(ValueError, match=r"decay_share is 0\.2, expected optimizer\.decay to be .*'1-sqrt' with it"):
        OptimizerConfig(decay_share=0.2)


def test_a_recipe_needs_stages_with_different_names() -> None:
    stage = toy_recipe().stages[0]
    with pytest.raises(ValueError, match="different names"):
        RecipeConfig(name="x", stages=(stage, stage))
    with pytest.raises(ValueError, match="at least one stage"):
        RecipeConfig(name="x", stages=())


def test_json_holds_every_value_and_the_kind_of_task() -> None:
    data = json.loads(to_json(toy_recipe()))
    assert data["seed"] == 3
    assert data["stages"][0]["task"] == {"type": "ToyTaskConfig", **dataclasses.asdict(ToyTaskConfig())}
    assert data["stages"][1]["optimizer"]["grad_clip"] is None


def test_changes_name_the_path_and_say_what_is_harmless() -> None:
    before = json.loads(to_json(toy_recipe()))
    assert changes(before, toy_recipe()) == []
    recipe = toy_recipe(log_every=2, num_steps=99)
    found = {change.path: change for change in changes(before, recipe)}
    assert found["stages.low.num_steps"].before == 24
    assert found["stages.low.num_steps"].now == 99
    assert not found["stages.low.num_steps"].harmless
    assert found["stages.low.log_every"].harmless
    assert set(found) == {"stages.low.num_steps", "stages.high.log_every", "stages.low.log_every"}


def test_a_new_or_removed_setting_is_a_change() -> None:
    before = to_dict(toy_recipe())
    del before["init"]
    before["old"] = 1
    del before["stages"][0]["ema_decay"]
    found = changes(before, toy_recipe())
    # `init` is at its default, so it is not a change.
    assert [(change.path, change.harmless) for change in found] == [
        ("stages.low.ema_decay", False),
        ("old", False),
    ]


@pytest.mark.parametrize(("value", "found"), [(None, []), ("ds.json", ["stages.low.parallel.deepspeed"])])
def test_runs_that_were_saved_with_the_deepspeed_setting_can_be_resumed(value: str | None, found: list[str]) -> None:
    before = to_dict(toy_recipe())
    before["stages"][0]["parallel"]["deepspeed"] = value
    differing = changes(before, toy_recipe())
    assert [change.path for change in differing] == found
    assert all(change.harmless for change in differing)


def test_a_value_that_json_cannot_hold_is_refused() -> None:
    @dataclasses.dataclass(frozen=True)
    class Odd:
        thing: object

    with pytest.raises(ValueError, match="cannot be saved as JSON"):
        to_json(Odd(object()))
