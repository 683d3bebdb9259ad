"""A recipe as a command line asks for it: by name, with clips, a start, a cache and single settings of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from videocrafter.training.config import RecipeConfig
    from videocrafter.training.video.task_config import ClipDiffusionTaskConfig

DataOption = Annotated[
    list[str] | None,
    typer.Option("--data", help="Clips to train on: a folder, or FORMAT:PATH (docs/data.md). Repeatable."),
]
StartOption = Annotated[
    str | None, typer.Option("--init", help="What to start from: a pipeline folder, or a model's name.")
]
CacheOption = Annotated[
    str | None, typer.Option("--cache", help="Folder where latents and text are kept (docs/training.md).")
]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change one setting: stages.low.num_steps=100. Repeatable.")
]


def choose_recipe(
    name: str,
    settings: list[str] | None,
    *,
    data: list[str] | None = None,
    init: str | None = None,
    cache: str | None = None,
) -> RecipeConfig:
    """The recipe of a name, with what is given changed in all of its stages.

    Args:
        settings: as `--set` takes them.
        data: sources of clips.
        init: what it starts from.
        cache: folder of the cache.

    Raises:
        ValueError: there is no such recipe, or it has not what is to be changed; one line.
    """
    from videocrafter.training.recipes.miniature import RECIPES
    from videocrafter.training.recipes.overrides import apply_overrides

    if name not in RECIPES:
        nearest = get_close_matches(name, RECIPES, n=1, cutoff=0.0)
        hint = f"; did you mean {nearest[0]}?" if nearest else "."
        raise ValueError(f"there is no recipe {name!r}{hint} Recipes: {', '.join(sorted(RECIPES))}")
    recipe = apply_overrides(RECIPES[name](), settings or [])
    if data:
        sources = tuple(data)
        recipe = with_clip_tasks(
            recipe,
            lambda task: replace(task, data=replace(task.data, sources=sources)),
            otherwise="--data is given, but the recipe {!r} makes its own clips; leave it out",
        )
    if init is not None:
        recipe = replace(recipe, init=init)
    if cache is not None:
        recipe = with_clip_tasks(
            recipe,
            lambda task: replace(task, cache=replace(task.cache, folder=cache)),
            otherwise="--cache is given, but the recipe {!r} keeps no cache; leave it out",
        )
    return recipe


def with_clip_tasks(
    recipe: RecipeConfig, change: Callable[[ClipDiffusionTaskConfig], ClipDiffusionTaskConfig], *, otherwise: str
) -> RecipeConfig:
    """The recipe with every stage's task changed.

    Args:
        otherwise: what is said, with the recipe's name, where a stage does not train on clips from files.

    Raises:
        ValueError: there is such a stage.
    """
    from videocrafter.training.video.task_config import ClipDiffusionTaskConfig

    stages = []
    for stage in recipe.stages:
        if not isinstance(stage.task, ClipDiffusionTaskConfig):
            raise ValueError(otherwise.format(recipe.name))
        stages.append(replace(stage, task=change(stage.task)))
    return replace(recipe, stages=tuple(stages))
