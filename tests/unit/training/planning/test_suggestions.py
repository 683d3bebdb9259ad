from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.tiny_clips import clip_recipe
from videocrafter.training.config import RecipeConfig
from videocrafter.training.planning import suggestions
from videocrafter.training.planning.options import choices
from videocrafter.training.planning.plan import RESERVED, Machine, Planner
from videocrafter.training.planning.suggestions import Advice, Outcome, advise
from videocrafter.training.recipes.overrides import apply_overrides


@pytest.fixture(autouse=True)
def _at_most_two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number of devices needs its own search."""
    monkeypatch.setattr(suggestions, "_MORE_DEVICES", (2,))


@pytest.fixture(scope="module")
def recipe(t2v: Path) -> RecipeConfig:
    recipe = clip_recipe(t2v, accumulate=4)
    return apply_overrides(recipe, ["stages.*.precision=bf16", "stages.*.task.frozen_weights=bf16"])


def with_room(recipe: RecipeConfig, planner: Planner, share: float, count: int = 1) -> Machine:
    """A machine with this share of the memory that the recipe needs."""
    peak = planner.plan(recipe, Machine(kind="gpu", memory=2**40, count=count)).stages[0].memory.peak.total
    return Machine(kind="gpu", memory=RESERVED["gpu"] + int(share * peak), count=count)


def advice(recipe: RecipeConfig, planner: Planner, machine: Machine) -> Advice:
    (found,) = advise(planner, recipe, planner.plan(recipe, machine))
    return found


def peak_of(outcome: Outcome, recipe: RecipeConfig, planner: Planner, machine: Machine) -> int:
    changed = apply_overrides(recipe, outcome.settings)
    return planner.plan(changed, replace(machine, count=outcome.count)).stages[0].memory.peak.total


def test_nothing_is_advised_where_all_fits(recipe: RecipeConfig, planner: Planner):
    machine = with_room(recipe, planner, 1.0)
    assert advise(planner, recipe, planner.plan(recipe, machine)) == []


def test_every_suggestion_is_what_a_plan_with_its_settings_says(recipe: RecipeConfig, planner: Planner):
    machine = with_room(recipe, planner, 0.6)
    found = advice(recipe, planner, machine)
    before = planner.plan(recipe, machine).stages[0].memory.peak.total
    assert found.together is not None
    assert found.together.fits
    for outcome in (*found.alone, found.together):
        assert outcome.peak == peak_of(outcome, recipe, planner, machine) < before
        assert outcome.fits == (outcome.peak <= machine.usable)


def test_nothing_needless_is_in_the_set(recipe: RecipeConfig, planner: Planner):
    machine = with_room(recipe, planner, 0.6)
    found = advice(recipe, planner, machine).together
    assert found is not None
    groups = [{"task.gradient_checkpointing"}, {"ema_device"}, {"optimizer.state_dtype"}, {"optimizer.offload"}]
    for group in groups:
        fewer = [one for one in found.settings if one.split("=")[0].removeprefix("stages.clips.") not in group]
        if len(fewer) < len(found.settings):
            smaller = planner.plan(apply_overrides(recipe, fewer), machine).stages[0].memory.peak.total
            assert smaller > machine.usable


def test_a_little_too_much_is_mended_by_what_costs_least(recipe: RecipeConfig, planner: Planner):
    found = advice(recipe, planner, with_room(recipe, planner, 0.97)).together
    assert found is not None
    assert found.settings == ("stages.clips.task.gradient_checkpointing=true",)


def test_what_cannot_be_is_not_promised(recipe: RecipeConfig, planner: Planner):
    found = advice(recipe, planner, Machine(kind="gpu", memory=RESERVED["gpu"] + 1))
    assert found.together is None
    assert not any(outcome.fits for outcome in found.alone)


def test_more_devices_share_the_weights(recipe: RecipeConfig, planner: Planner):
    found = advice(recipe, planner, with_room(recipe, planner, 0.6)).more_devices
    assert found is not None
    assert found.count == 2
    assert "stages.clips.parallel.sharding=full" in found.settings
    assert found.fits


def test_a_stage_that_stands_second_is_changed_alone(recipe: RecipeConfig, planner: Planner):
    small = replace(recipe.stages[0], name="small", ema_decay=0.0, task=recipe.stages[0].task)
    both = replace(recipe, stages=(small, recipe.stages[0]))
    plan = planner.plan(both, with_room(recipe, planner, 0.97))
    names = {one.stage for one in advise(planner, both, plan)}
    assert "clips" in names
    last = advise(planner, both, plan)[-1]
    assert all(setting.startswith("stages.clips.") for one in last.alone for setting in one.settings)


def test_settings_that_are_set_are_not_offered(recipe: RecipeConfig):
    machine = Machine(kind="gpu", memory=2**34)

    def offered(*settings: str) -> set[str]:
        stage = apply_overrides(recipe, [f"stages.*.{one}" for one in settings]).stages[0]
        return {setting for choice in choices(stage, machine) for option in choice for setting in option.settings}

    assert "ema_device=cpu" in offered()
    assert "ema_device=cpu" not in offered("ema_device=cpu")
    assert "optimizer.state_dtype=bf16" not in offered("optimizer.state_dtype=bf16")
    assert "task.gradient_checkpointing=true" not in offered("task.gradient_checkpointing=true")
    assert not any(one.startswith("parallel") for one in offered())


def test_on_a_cpu_nothing_is_moved_to_where_it_is(recipe: RecipeConfig):
    found = choices(recipe.stages[0], Machine(kind="cpu", memory=2**34))
    settings = {setting for choice in found for option in choice for setting in option.settings}
    assert not settings & {"ema_device=cpu", "optimizer.offload=true", "offload_activations=true"}
    assert "optimizer.state_dtype=bf16" in settings
