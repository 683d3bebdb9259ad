"""A run's configuration as JSON data, and the differences between two configurations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from videocrafter.training.parallel.launcher import NO_DEEPSPEED

REMOVED_SETTINGS = {"parallel.deepspeed": NO_DEEPSPEED}
"""Ends of the paths of settings that earlier versions had, and what to use instead."""


@dataclass(frozen=True)
class Change:
    """A setting that differs between two configurations.

    Attributes:
        path: dotted path of the setting.
        harmless: the change does not affect what is learned.
    """

    path: str
    before: object
    now: object
    harmless: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.before!r} -> {self.now!r}"


_ABSENT = "(absent)"


def to_dict(config: object) -> dict[str, Any]:
    """Return a config dataclass as nested JSON data. Each dataclass names its class under "type"."""
    plain = _plain(config)
    if not isinstance(plain, dict):
        raise ValueError(f"{config!r} is not a config dataclass")
    return plain


def to_json(config: object) -> str:
    """Return `to_dict` as indented JSON text."""
    return json.dumps(to_dict(config), indent=2)


def flat(config: object) -> dict[str, Any]:
    """Return `to_dict` as a flat mapping of dotted paths to values, with stages addressed by name."""
    return dict(_leaves(to_dict(config)))


def changes(before: dict[str, Any], config: object) -> list[Change]:
    """List the settings that differ between a saved `to_dict` and the present config."""
    now = to_dict(config)
    old, new = dict(_leaves(before)), dict(_leaves(now))
    # A setting that was added after the run began has a default that matches the earlier behaviour.
    for path in set(_paths_at_default(config)) - old.keys():
        new.pop(path, None)
    removed = {path for path in old if path.endswith(tuple(REMOVED_SETTINGS)) and path not in new}
    old = {path: value for path, value in old.items() if path not in removed or value is not None}
    harmless = removed.union(_harmless_paths(config))
    paths = [*new, *(path for path in old if path not in new)]
    return [
        Change(path, old.get(path, _ABSENT), new.get(path, _ABSENT), path in harmless)
        for path in paths
        if old.get(path, _ABSENT) != new.get(path, _ABSENT)
    ]


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        data = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        return {"type": type(value).__name__, **data}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"the config holds {value!r} of type {type(value).__name__}, which cannot be saved as JSON")


def _leaves(data: Any, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield dotted paths and values; list items are addressed by name if they have one."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(data, list) and data and all(isinstance(item, dict) for item in data):
        for index, item in enumerate(data):
            yield from _leaves(item, f"{path}.{item.get('name', index)}")
    else:
        yield path, data


def _paths_at_default(value: object, path: str = "") -> Iterator[str]:
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            inner = f"{path}.{field.name}" if path else field.name
            item = getattr(value, field.name)
            if field.default is not MISSING and item == field.default:
                yield from (leaf for leaf, _ in _leaves(_plain(item), inner))
            else:
                yield from _paths_at_default(item, inner)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _paths_at_default(item, f"{path}.{getattr(item, 'name', index)}")


def _harmless_paths(value: object, path: str = "") -> Iterator[str]:
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            inner = f"{path}.{field.name}" if path else field.name
            item = getattr(value, field.name)
            if field.metadata.get("harmless"):
                yield from (leaf for leaf, _ in _leaves(_plain(item), inner))
            else:
                yield from _harmless_paths(item, inner)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _harmless_paths(item, f"{path}.{getattr(item, 'name', index)}")
