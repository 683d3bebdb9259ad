"""One run at a time in an output folder, which begins by removing what killed runs have left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from videocrafter.media.atomic_write import remove_leftovers
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


def clean(out: Path) -> None:
    """Remove copies and unfinished files of killed runs. Only inside `locked`."""
    shutil.rmtree(out / "work" / "scratch", ignore_errors=True)
    for folder in (out, *out.glob("*/"), *out.glob("work/*/"), *out.glob("work/*/*/")):
        remove_leftovers(folder)
