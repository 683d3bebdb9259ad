"""Call the command line within the test's process; the commands are built once."""

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
    """Run `videocrafter ARGUMENTS` and return its output and exit status.

    Unexpected exceptions propagate unless `catch_exceptions`. `settings` are passed to `CliRunner.invoke`.
    """
    runner = typer.testing.CliRunner()
    with mock.patch.object(typer.testing, "_get_command", return_value=_command()):
        return runner.invoke(app, [*map(str, arguments)], catch_exceptions=catch_exceptions, **settings)
