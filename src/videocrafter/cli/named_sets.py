"""Arguments that name videos: `[NAME=]WHAT[@SETTING=VALUE,…]`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_NOT_IN_NAMES = frozenset('/\\:*?"<>|')


def named_sets(arguments: Sequence[str]) -> dict[str, tuple[str, list[str]]]:
    """Return what follows each name, and its settings; without a name, the last part of the path is used.

    Paths that exist may contain "=" and "@" themselves.

    Raises:
        ValueError: two arguments have the same name, or a name cannot be that of a folder.
    """
    found: dict[str, tuple[str, list[str]]] = {}
    for argument in arguments:
        name, what, settings = _split(argument)
        if not name or name.startswith(".") or _NOT_IN_NAMES & set(name):
            raise ValueError(f"{name!r} cannot name a column; write NAME={what} with a name of letters and digits")
        if name in found:
            raise ValueError(f"two video sets are called {name!r}; give them different names, such as other={what}")
        found[name] = (what, settings)
    return found


def _split(argument: str) -> tuple[str, str, list[str]]:
    if Path(argument).expanduser().exists():
        return Path(argument).expanduser().absolute().name, argument, []
    name, equals, rest = argument.partition("=")
    # In `tiny@steps=4` the "=" belongs to the setting.
    if not equals or "@" in name or "/" in name:
        name, rest = "", argument
    what, at, settings = (rest, "", "") if Path(rest).expanduser().exists() else rest.partition("@")
    listed = [one for one in settings.split(",") if one] if at else []
    return name or "-".join([Path(what).expanduser().absolute().name, *listed]), what, listed
