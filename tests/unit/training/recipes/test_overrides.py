from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_run import toy_recipe

from videocrafter.training.recipes.overrides import apply_overrides, setting_paths


@dataclass(frozen=True, kw_only=True)
class Inner:
    sizes: tuple[int, ...] = (32, 64)
    span: tuple[float, float] = (4.0, 24.0)
    mode: Literal["fast", "exact"] = "fast"


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = Inner()
    count: int = 1
    share: float = 0.5
    on: bool = False
    limit: float | None = 1.0
    words: tuple[str, ...] = ("a",)
    folder: Path = Path("x")
    label: int | str = 0


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("count=7", "count", 7),
        ("count=2e3", "count", 2000),
        ("share=1e-3", "share", 1e-3),
        ("on=true", "on", True),
        ("on=off", "on", False),
        ("limit=none", "limit", None),
        ("limit=0.25", "limit", 0.25),
        ("inner.sizes=16", "inner.sizes", (16,)),
        ("inner.sizes=(16, 32, 64)", "inner.sizes", (16, 32, 64)),
        ("inner.span=[1,2.5]", "inner.span", (1.0, 2.5)),
        ("inner.mode=exact", "inner.mode", "exact"),
        ("words=left,right", "words", ("left", "right")),
        ("words=[left, right]", "words", ("left", "right")),
        ('words=["left, then right"]', "words", ("left, then right",)),
        ('words= [ "a", 1 ]', "words", ("a", "1")),
        ('words=say "a", then b', "words", ('say "a"', "then b")),
        ("words=[]", "words", ()),
        ('inner.sizes=["16", 32]', "inner.sizes", (16, 32)),
        ("folder=runs/a=b", "folder", Path("runs/a=b")),
        ("label=3", "label", 3),
        ("label=three", "label", "three"),
    ],
)
def test_text_is_parsed_by_the_annotation(assignment: str, path: str, value: object) -> None:
    config: object = apply_overrides(Outer(), [assignment])
    for name in path.split("."):
        config = getattr(config, name)
    assert config == value
    assert type(config) is type(value)


@given(words=st.lists(st.text()))
def test_any_texts_can_be_given_as_a_json_list(words: list[str]) -> None:
    assert apply_overrides(Outer(), [f"words={json.dumps(words)}"]).words == tuple(words)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("count=2.5", "--set count=2.5: expected a whole number"),
        ("count=many", "expected a whole number"),
        ("share=nan", "expected a finite number"),
        ("on=maybe", "expected true or false"),
        ("inner.mode=exakt", "expected one of fast, exact; did you mean exact?"),
        ("inner.span=1", "expected 2 values separated by commas, got 1"),
        ("inner.span=1,x", "expected a number"),
        ("limit=x", "expected a number, or none"),
        ("inner=3", "this is a group of settings; set one of them, such as inner.sizes"),
        ("inner.size=3", "no such setting; did you mean inner.sizes?"),
        ("sizes=3", "did you mean inner.sizes?"),
        ("count.more=3", "no such setting"),
        ('words=["a, b"', 'expected a list in JSON, such as ["one, with a comma", "two"]'),
        ('inner.sizes=["many"]', "expected a whole number"),
        ('inner.span=["1"]', "expected 2 values separated by commas, got 1"),
        ("count", "is not an assignment"),
        ("=3", "is not an assignment"),
    ],
)
def test_what_is_wrong_is_named(assignment: str, said: str) -> None:
    with pytest.raises(ValueError) as error:
        apply_overrides(Outer(), [assignment])
    assert said in str(error.value)


def test_stages_go_by_index_name_or_star() -> None:
    recipe = apply_overrides(
        toy_recipe(),
        [
            "stages.1.num_steps=100",
            "stages.low.task.width=16",
            "stages.*.log_every=7",
            "stages.*.optimizer.lr=0.5",
        ],
    )
    low, high = recipe.stages
    assert (low.num_steps, high.num_steps) == (24, 100)
    assert (low.task.width, high.task.width) == (16, 8)
    assert (low.log_every, high.log_every) == (7, 7)
    assert (low.optimizer.lr, high.optimizer.lr) == (0.5, 0.5)


def test_an_unknown_key_names_the_nearest_with_the_same_ending() -> None:
    with pytest.raises(ValueError, match=r"did you mean stages\.high\.optimizer\.lr\?"):
        apply_overrides(toy_recipe(), ["stages.high.lr=1"])


def test_the_removed_deepspeed_setting_is_refused_in_favour_of_fsdp() -> None:
    with pytest.raises(ValueError, match=r"DeepSpeed is not supported; use FSDP2 instead: parallel\.sharding=full"):
        apply_overrides(toy_recipe(), ["stages.*.parallel.deepspeed=ds.json"])


def test_values_that_depend_on_each_other_are_checked_together() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Range:
        low: int = 0
        high: int = 10

        def __post_init__(self) -> None:
            if self.low >= self.high:
                raise ValueError("low must be below high")

    assert apply_overrides(Range(), ["low=20", "high=30"]) == Range(low=20, high=30)
    with pytest.raises(ValueError, match="low must be below high"):
        apply_overrides(Range(), ["low=20"])


def test_of_two_assignments_the_later_wins() -> None:
    assert apply_overrides(Outer(), ["count=1", "count=2"]).count == 2


def test_every_listed_path_can_be_set() -> None:
    paths = list(setting_paths(toy_recipe()))
    assert "stages.high.optimizer.betas" in paths
    assert "stages.low.task.width" in paths
    assert len(paths) == len(set(paths))
