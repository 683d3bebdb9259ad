"""Options that `train`, `plan` and `cache` share, and the recipe that they describe."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from videocrafter.cli.errors import naming_settings

if TYPE_CHECKING:
    from videocrafter.training.config import RecipeConfig
    from videocrafter.training.video.task_config import ClipDiffusionTaskConfig

DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data", metavar="SOURCE", help="Training clips: a folder, or FORMAT:PATH (see docs/data.md). Repeatable."
    ),
]
StartOption = Annotated[
    str | None,
    typer.Option(
        "--init",
        metavar="MODEL",
        help="Weights to start from: a pipeline folder, a training run, or the name of a model.",
    ),
]
CacheOption = Annotated[
    str | None,
    typer.Option(
        "--cache", metavar="FOLDER", help="Folder for cached latents and text embeddings (see docs/training.md)."
    ),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Override one setting, such as stages.low.num_steps=100. Repeatable."
    ),
]
StagesOption = Annotated[
    str | None,
    typer.Option(
        "--stages",
        metavar="NAMES",
        help="Run only these stages, such as high or low,high; the first starts from --init.",
    ),
]

_OPTION_OF = {"init": "--init", "num_workers": "--num-workers", "cache.folder": "--cache", "data.sources": "--data"}


def naming_options() -> AbstractContextManager[None]:
    """Turn an error that begins with the name of a setting into one that begins with its option."""
    return naming_settings(_OPTION_OF)


def choose_recipe(
    name: str,
    settings: list[str] | None,
    *,
    data: list[str] | None = None,
    init: str | None = None,
    cache: str | None = None,
    stages: str | None = None,
) -> RecipeConfig:
    """Return a recipe by name, with the given options applied to all of its stages.

    Args:
        settings: overrides as passed to `--set`.
        data: sources of clips.
        init: weights to start from.
        cache: folder of the cache.
        stages: names of the stages to keep, separated by commas.

    Raises:
        ValueError: there is no such recipe, or an option does not apply to it. The message is one line.
    """
    from videocrafter.training.recipes.by_name import RECIPES
    from videocrafter.training.recipes.distillation import with_teacher
    from videocrafter.training.recipes.overrides import apply_overrides

    if name not in RECIPES:
        nearest = get_close_matches(name, RECIPES, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else "."
        raise ValueError(f"there is no recipe {name!r}{hint} Recipes: {', '.join(sorted(RECIPES))}")
    recipe = apply_overrides(RECIPES[name](), settings or [])
    if data:
        sources = tuple(data)
        recipe = with_clip_tasks(
            recipe,
            lambda task: replace(task, data=replace(task.data, sources=sources)),
            otherwise="the recipe {!r} generates its own clips; remove --data",
        )
    if init is not None:
        recipe = replace(recipe, init=init)
    if cache is not None:
        recipe = with_clip_tasks(
            recipe,
            lambda task: replace(task, cache=replace(task.cache, folder=cache)),
            otherwise="the recipe {!r} does not use a cache; remove --cache",
        )
    return with_teacher(recipe if stages is None else _only(recipe, stages))


def _only(recipe: RecipeConfig, names: str) -> RecipeConfig:
    """Return a recipe with some of its stages, in its order."""
    known, wanted = [stage.name for stage in recipe.stages], [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"--stages names {unknown[0]!r}; the recipe {recipe.name!r} has {', '.join(known)}")
    return replace(recipe, stages=tuple(stage for stage in recipe.stages if stage.name in wanted))


def with_clip_tasks(
    recipe: RecipeConfig, change: Callable[[ClipDiffusionTaskConfig], ClipDiffusionTaskConfig], *, otherwise: str
) -> RecipeConfig:
    """Return the recipe with the task of every stage changed.

    Args:
        otherwise: error message, formatted with the recipe's name, if a stage does not train on clips from files.

    Raises:
        ValueError: a stage does not train on clips from files.
    """
    from videocrafter.training.video.task_config import ClipDiffusionTaskConfig

    stages = []
    for stage in recipe.stages:
        if not isinstance(stage.task, ClipDiffusionTaskConfig):
            raise ValueError(otherwise.format(recipe.name))
        stages.append(replace(stage, task=change(stage.task)))
    return replace(recipe, stages=tuple(stages))
