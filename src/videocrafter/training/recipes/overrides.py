"""`--set a.b=c`: replace single values of a nested frozen config, parsed according to their annotations."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from videocrafter.training.resolved_config import REMOVED_SETTINGS

Config = TypeVar("Config")

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_NONE = ("none", "null")


def apply_overrides(config: Config, assignments: Sequence[str]) -> Config:
    """Return a copy of `config` with values replaced.

    Args:
        config: a frozen dataclass. Dotted paths address nested dataclasses and tuples of dataclasses. An item of a
            tuple is addressed by index, by name, or by "*" for all items: `stages.1.num_steps=100`,
            `stages.low.num_steps=100`, `stages.*.log_every=5`.
        assignments: strings such as "stages.low.optimizer.lr=1e-3". If a path is assigned twice, the last one wins.
            Separate the items of a tuple by commas, or write a JSON list: `prompts=["a cat, at night"]`.

    Raises:
        ValueError: an assignment has no "=", its path is unknown (the message suggests the closest one), or its value
            does not fit the field's type or fails the config's own checks.
    """
    tree: dict[str, Any] = {}
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        path = path.strip()
        if not separator or not path:
            raise ValueError(f"--set {assignment!r} is not an assignment; write path=value, such as seed=1")
        for place in _places(config, path):
            branch = tree
            for key in place[:-1]:
                branch = branch.setdefault(key, {})
            branch[place[-1]] = (path, text.strip())
    rebuilt: Config = _rebuild(config, tree)
    return rebuilt


def setting_paths(config: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of every value that can be set; tuple items are addressed by name if they have one."""
    if is_dataclass(config) and not isinstance(config, type):
        for field in fields(config):
            yield from setting_paths(getattr(config, field.name), f"{prefix}.{field.name}" if prefix else field.name)
    elif _is_tuple_of_configs(config):
        for index, item in enumerate(config):
            yield from setting_paths(item, f"{prefix}.{getattr(item, 'name', index)}")
    else:
        yield prefix


def _is_tuple_of_configs(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) > 0 and all(is_dataclass(item) for item in value)


def _places(config: object, path: str) -> list[tuple[str, ...]]:
    """Return the keys from the root to each value that `path` matches; tuple items are given by index."""
    found: list[tuple[tuple[str, ...], Any]] = [((), config)]
    for key in path.split("."):
        found = [((*keys, step), value) for keys, node in found for step, value in _children(node, key)]
    groups = [value for _, value in found if is_dataclass(value) or _is_tuple_of_configs(value)]
    if groups:
        example = next(setting_paths(groups[0], path))
        raise ValueError(f"--set {path}: this is a group of settings; set one of them, such as {example}")
    if not found:
        raise ValueError(_unknown(config, path))
    return [keys for keys, _ in found]


def _children(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if is_dataclass(node):
        if key in (field.name for field in fields(node)):
            yield key, getattr(node, key)
    elif _is_tuple_of_configs(node):
        for index, item in enumerate(node):
            if key in ("*", str(index), getattr(item, "name", None)):
                yield str(index), item


def _unknown(config: object, path: str) -> str:
    for removed, advice in REMOVED_SETTINGS.items():
        if path.endswith(removed):
            return f"--set {path}: {advice}"
    known = list(setting_paths(config))
    last = path.rsplit(".", 1)[-1]
    same_ending = [name for name in known if name.rsplit(".", 1)[-1] == last]
    nearest = difflib.get_close_matches(path, same_ending or known, n=1, cutoff=0.0)
    return f"--set {path}: there is no such setting; did you mean {nearest[0]}?"


def _rebuild(node: Any, tree: dict[str, Any]) -> Any:
    if isinstance(node, tuple):
        return tuple(
            _rebuild(item, tree[str(index)]) if str(index) in tree else item for index, item in enumerate(node)
        )
    new: dict[str, Any] = {}
    for key, branch in tree.items():
        if isinstance(branch, dict):
            new[key] = _rebuild(getattr(node, key), branch)
        else:
            path, text = branch
            new[key] = _parse(text, _annotation(node, key), path)
    return replace(node, **new)


def _annotation(node: Any, key: str) -> Any:
    try:
        return get_type_hints(type(node))[key]
    except NameError:
        # The annotation is imported under TYPE_CHECKING only; use the type of the present value.
        return type(getattr(node, key))


def _parse(text: str, annotation: Any, path: str) -> Any:
    try:
        return _parse_as(text, annotation)
    except ValueError as error:
        raise ValueError(f"--set {path}={text}: {error}") from None


def _parse_as(text: str, annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _parse_union(text, arguments)
    if origin is Literal:
        return _parse_literal(text, arguments)
    if origin is tuple or annotation is tuple:
        return _parse_tuple(text, arguments or (str, ...))
    if annotation is bool:
        lowered = text.lower()
        if lowered not in _TRUE + _FALSE:
            raise ValueError("expected true or false")
        return lowered in _TRUE
    if annotation is int:
        return _parse_int(text)
    if annotation is float:
        return _parse_float(text)
    if annotation is Path:
        return Path(text)
    if annotation in (str, Any):
        return text
    raise ValueError(f"a value of type {annotation} cannot be given as text")


def _parse_union(text: str, options: tuple[Any, ...]) -> Any:
    if type(None) in options and text.lower() in _NONE:
        return None
    reasons = []
    # str accepts every text, so it comes last.
    for option in sorted((o for o in options if o is not type(None)), key=lambda o: o is str):
        try:
            return _parse_as(text, option)
        except ValueError as error:  # noqa: PERF203  the next option may fit
            reasons.append(str(error))
    raise ValueError(" or ".join(reasons) + (", or none" if type(None) in options else ""))


def _parse_literal(text: str, allowed: tuple[Any, ...]) -> Any:
    for value in allowed:
        if str(value) == text:
            return value
    nearest = difflib.get_close_matches(text, [str(value) for value in allowed], n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    raise ValueError(f"expected one of {', '.join(map(str, allowed))}{hint}")


def _parse_tuple(text: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    parts = _parts_of_json(text) if text.startswith("[") and '"' in text else _parts_between_commas(text)
    if len(arguments) == 2 and arguments[1] is ...:
        return tuple(_parse_as(part, arguments[0]) for part in parts)
    if len(parts) != len(arguments):
        raise ValueError(f"expected {len(arguments)} values separated by commas, got {len(parts)}")
    return tuple(_parse_as(part, kind) for part, kind in zip(parts, arguments, strict=True))


def _parts_between_commas(text: str) -> list[str]:
    inner = text[1:-1] if text[:1] + text[-1:] in ("()", "[]") else text
    return [part.strip() for part in inner.split(",") if part.strip()]


def _parts_of_json(text: str) -> list[str]:
    """The items of a JSON list, whose texts may hold commas."""
    try:
        items: list[Any] = json.loads(text)
    except ValueError as error:
        raise ValueError(f'expected a list in JSON, such as ["one, with a comma", "two"] ({error})') from None
    return [item if isinstance(item, str) else json.dumps(item) for item in items]


def _parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        number = _parse_float(text) if "e" in text.lower() else 0.5
        if number != int(number):
            raise ValueError("expected a whole number") from None
        return int(number)


def _parse_float(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError("expected a number") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError("expected a finite number")
    return number
