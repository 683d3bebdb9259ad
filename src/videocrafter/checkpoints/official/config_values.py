"""Checks of values from config files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def check_whole(options: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    """Check that each of the named options, if present, is a positive integer.

    Raises ValueError that names the first one that is not.
    """
    for name in names:
        if name in options and not is_whole(options[name]):
            raise ValueError(f"{where}.{name} is {options[name]!r}; expected a positive integer")


def check_whole_list(options: Mapping[str, Any], name: str, where: str, *, may_be_empty: bool = False) -> None:
    """Check that an option, if present, is a list of positive integers. Raises ValueError if it is not."""
    value = options.get(name, [1])
    is_list = isinstance(value, list | tuple) and all(is_whole(item) for item in value)
    if not is_list or not (value or may_be_empty):
        raise ValueError(f"{where}.{name} is {value!r}; expected a list of positive integers, such as [1, 2, 4, 4]")


def number_of(options: Mapping[str, Any], name: str, default: float, where: str = "") -> float:
    """Return the number stored under a name, or the default. Raises ValueError unless it is a finite number."""
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where}{name} is {value!r}; expected a finite number")
    return float(value)


def section_of(tree: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    """Return the mapping stored under a name; empty if it is missing. Raises ValueError for another type."""
    section = tree.get(name)
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise ValueError(f"{where}{name} is {section!r}; expected a mapping")
    return section


def is_whole(value: Any) -> bool:
    """Return whether a value is a positive integer."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
