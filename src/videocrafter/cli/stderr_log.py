"""Write the package's log to standard error."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress


class StderrHandler(logging.Handler):
    """A handler that looks up `sys.stderr` for every line, so that lines appear above a live progress view."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        # A closed terminal must not stop the run.
        with suppress(OSError):
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()


def log_to_stderr() -> None:
    """Write the package's log to standard error; only warnings on other ranks than 0."""
    logger = logging.getLogger("videocrafter")
    if not logger.handlers:
        logger.addHandler(StderrHandler())
        logger.setLevel(logging.INFO if is_main_process() else logging.WARNING)


def is_main_process() -> bool:
    """Return whether this process has rank 0."""
    return os.environ.get("RANK", "0") == "0"
