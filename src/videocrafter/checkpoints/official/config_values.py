"""Checks of numbers that a person wrote into a config file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def check_whole(options: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    """Check that each of the options that is there is a whole number above 0.

    Raises ValueError that names the first that is not.
    """
    for name in names:
        if name in options and not is_whole(options[name]):
            raise ValueError(f"{where}.{name} is {options[name]!r}; expected a whole number above 0")


def check_whole_list(options: Mapping[str, Any], name: str, where: str, *, may_be_empty: bool = False) -> None:
    """Check that an option, if it is there, is a list of whole numbers above 0.

    Raises ValueError if it is not.
    """
    value = options.get(name, [1])
    is_list = isinstance(value, list | tuple) and all(is_whole(item) for item in value)
    if not is_list or not (value or may_be_empty):
        raise ValueError(
            f"{where}.{name} is {value!r}; expected a list of whole numbers above 0, such as [1, 2, 4, 4]"
        )


def number_of(options: Mapping[str, Any], name: str, default: float, where: str = "") -> float:
    """The number under a name, or the default.

    Raises ValueError if something else is there, or a number that is not finite.
    """
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where}{name} is {value!r}; expected a number")
    return float(value)


def section_of(tree: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    """The mapping under a name, which may be missing or empty.

    Raises ValueError if something else is there.
    """
    section = tree.get(name)
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise ValueError(f"{where}{name} is {section!r}; expected a mapping")
    return section


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
