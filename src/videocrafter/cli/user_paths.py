"""Expand `~` in paths, which no shell does in `--option=~/path`, inside quotes, or in a list of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from videocrafter.media.home_folder import expand_home

# Options and arguments of type text that may hold a path, by the name of the function's parameter.
_TEXT_PARAMETERS = frozenset({"model", "name", "i2v", "init", "cache", "lora", "paths"})
_SETTING_PARAMETERS = frozenset({"set_"})


class UserPathCommand(TyperCommand):
    """A command that expands `~` in its paths, in texts that may be paths, and in the values of `--set`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, then expand the values."""
        rest = super().parse_args(ctx, args)
        for name, value in ctx.params.items():
            ctx.params[name] = _expanded(name, value)
        return rest


def _expanded(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_expanded(name, item) for item in value)
    if isinstance(value, Path):
        return expand_home(value)
    if isinstance(value, str) and name in _TEXT_PARAMETERS:
        return _expanded_text(value)
    if isinstance(value, str) and name in _SETTING_PARAMETERS:
        key, separator, setting = value.partition("=")
        return f"{key}{separator}{_expanded_text(setting)}"
    return value


def _expanded_text(text: str) -> str:
    # A path would lose its trailing slash or a leading "./".
    return str(expand_home(text)) if text.startswith("~") else text
