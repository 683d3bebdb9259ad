"""The command line, called inside the test's own process; its commands are put together once, not at every call."""

import functools
from collections.abc import Iterable
from typing import Any
from unittest import mock

import typer.testing
from typer.main import get_command

from videocrafter.cli.main import app

Result = typer.testing.Result


@functools.cache
def _command() -> Any:
    return get_command(app)


def call(arguments: Iterable[object], *, catch_exceptions: bool = False, **settings: Any) -> Result:
    """What `videocrafter ARGUMENTS` prints and its exit status; `settings` are those of `CliRunner.invoke`.

    A bug's exception comes through, instead of becoming an exit status, unless `catch_exceptions`.
    """
    runner = typer.testing.CliRunner()
    with mock.patch.object(typer.testing, "_get_command", return_value=_command()):
        return runner.invoke(app, [*map(str, arguments)], catch_exceptions=catch_exceptions, **settings)
