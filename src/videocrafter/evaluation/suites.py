"""The prompt suites that ship with the package."""

from __future__ import annotations

from pathlib import Path

from videocrafter.evaluation.prompt_list import PromptItem, read_prompt_list

_FOLDER = Path(__file__).parents[1] / "assets" / "prompts"


def suite_names() -> tuple[str, ...]:
    """Return the names of the shipped suites."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))


def read_suite(name: str) -> tuple[PromptItem, ...]:
    """Return the prompts of a suite with their attributes, in an order that mixes the aspects.

    Raises:
        ValueError: there is no suite of this name.
    """
    if name not in suite_names():
        raise ValueError(f"{name!r} is not a suite; choose {', '.join(suite_names())}")
    return read_prompt_list(_FOLDER / f"{name}.json")
