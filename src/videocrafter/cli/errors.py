"""How the command line says no: one line on standard error and exit status 2, without a traceback."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

BAD_INPUT_STATUS = 2


def fail(message: str) -> NoReturn:
    """Print one line that begins with "Error:" and end the program with status 2."""
    typer.echo(f"Error: {' '.join(message.split())}", err=True)
    raise typer.Exit(BAD_INPUT_STATUS)


@contextmanager
def bad_input(*expected: type[Exception]) -> Iterator[None]:
    """Turn what wrong input raises into one line: OSError and, if nothing is `expected`, every ValueError.

    Put it around code whose errors are the user's to mend: reading options, files and models, writing
    results. Computation stays outside, or names the errors that it expects, so that a bug shows its traceback.
    """
    named = expected or (ValueError,)
    try:
        yield
    except OSError as error:
        fail(describe_os_error(error))
    except named as error:
        fail(str(error))


def describe_os_error(error: OSError) -> str:
    """The file and the reason, without Python's error numbers."""
    if error.errno == errno.ENOSPC:
        return f"no space left on the disk while writing {error.filename or 'a file'}; free some and run again"
    if error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
