"""One run at a time in an output folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from videocrafter.preparation.failures import PreparationError


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold a lock on an output folder. The system releases it when the process ends, however it ends.

    Raises:
        PreparationError: another process is writing there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        opened = (out / ".lock").open("ab")
    except OSError as error:
        raise PreparationError(f"{out} cannot be written ({error.strerror}); choose another output") from error
    with opened as file:
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PreparationError(f"another process is preparing in {out}; wait for it, or end it") from None
            except OSError:
                pass  # this file system has no locks
        yield
