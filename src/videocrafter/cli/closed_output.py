"""Exit quietly when nobody reads standard output any more, and with one line when it cannot be written."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

import typer

from videocrafter.cli.errors import BAD_INPUT_STATUS

CLOSED_PIPE_STATUS = 128 + signal.Signals(getattr(signal, "SIGPIPE", 13)).value
"""Status of a program that a closed pipe ends, such as `cat` in `cat FILE | head -1`."""

_UNWRITABLE = {
    errno.ENOSPC: "no space left on its device",
    errno.EIO: "its device failed",
    errno.EBADF: "it is closed",
}


def exit_status(command: Callable[[], object]) -> int:
    """Run a command that ends by SystemExit, and return its exit status.

    A closed pipe does not raise a signal, so that a training run survives the end of the program that shows its
    progress.
    """
    try:
        command()
    except SystemExit as ended:
        # Click and rich catch a closed pipe and end with status 1.
        if isinstance(ended.__context__, BrokenPipeError):
            return _abandoned(CLOSED_PIPE_STATUS)
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BrokenPipeError:
        return _abandoned(CLOSED_PIPE_STATUS)
    except OSError as error:
        # An error of another file names it.
        if error.filename is not None or error.errno not in _UNWRITABLE:
            raise
        with suppress(OSError):
            typer.echo(f"Error: cannot write to standard output: {_UNWRITABLE[error.errno]}", err=True)
        return _abandoned(BAD_INPUT_STATUS)
    return 0


def _abandoned(status: int) -> int:
    """Discard what is still buffered, which would fail again when Python ends."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
