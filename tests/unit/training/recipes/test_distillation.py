"""The teacher of a recipe: its start, unless the user names another."""

from __future__ import annotations

from typing import Any

import pytest

from videocrafter.cli.train.recipe_choice import choose_recipe

TEACHER = "stages.*.task.distillation.teacher"


def teachers(name: str, *settings: str, init: str | None = None) -> list[str | None]:
    stages: Any = choose_recipe(name, list(settings), init=init).stages
    return [stage.task.distillation.teacher for stage in stages]


@pytest.mark.parametrize(
    ("name", "settings", "init", "expected"),
    [
        ("tiny-distill", [], None, "tiny-t2v"),
        ("tiny-distill", [], "mine", "mine"),
        ("tiny-distill", ["init=mine"], None, "mine"),
        ("tiny-distill", [f"{TEACHER}=tiny-t2v"], "mine", "tiny-t2v"),
        ("tiny-distill", [f"{TEACHER}=other"], "mine", "other"),
        ("distill-lora", [], None, None),
        ("distill", [], "mine", "mine"),
        ("distill", [f"{TEACHER}=other"], "mine", "other"),
    ],
)
def test_a_named_teacher_stays_and_otherwise_it_is_the_start(
    name: str, settings: list[str], init: str | None, expected: str | None
) -> None:
    assert teachers(name, *settings, init=init) == [expected, expected]


def test_one_stage_may_have_a_teacher_of_its_own() -> None:
    own = "stages.matching.task.distillation.teacher=tiny-t2v"
    assert teachers("tiny-distill", own, init="mine") == ["mine", "tiny-t2v"]
