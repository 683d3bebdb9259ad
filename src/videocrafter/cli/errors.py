"""Errors of the command line: one line on standard error and exit status 2, without a traceback."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import typer

BAD_INPUT_STATUS = 2


def fail(message: str) -> NoReturn:
    """Print one line that begins with "Error:" and exit with status 2."""
    typer.echo(f"Error: {' '.join(message.split())}", err=True)
    raise typer.Exit(BAD_INPUT_STATUS)


@contextmanager
def bad_input(*expected: type[Exception]) -> Iterator[None]:
    """Report errors caused by bad input in one line: OSError and the `expected` errors, by default ValueError.

    Use it around code whose errors the user can fix: reading options, files and models, and writing results. Keep
    computation outside, or name the errors that it raises, so that bugs still show a traceback.
    """
    named = expected or (ValueError,)
    try:
        yield
    except BrokenPipeError:  # the reader of the output has ended; see `main.py`
        raise
    except OSError as error:
        fail(describe_os_error(error))
    except named as error:
        fail(str(error))


@contextmanager
def naming_settings(option_of: Mapping[str, str]) -> Iterator[None]:
    """Turn an error that begins with the name of a setting into one that begins with the option that the user typed.

    Args:
        option_of: options by the name of their setting, such as "--steps" for "num_inference_steps".
    """
    try:
        yield
    except ValueError as error:
        setting, space, rest = str(error).partition(" ")
        if setting in option_of and len(error.args) == 1:
            error.args = (f"{option_of[setting]}{space}{rest}",)
        raise


def describe_os_error(error: OSError) -> str:
    """Return the file and the reason, without Python's error number."""
    if error.errno == errno.ENOSPC:
        return f"no space left on the disk while writing {error.filename or 'a file'}; free some space"
    if error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
