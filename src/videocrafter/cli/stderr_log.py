"""The package's log on standard error, as it is."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress


class StderrHandler(logging.Handler):
    """Writes to whatever stderr is at the time, so that lines appear above the moving view."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        # A terminal that was closed ends no run.
        with suppress(OSError):
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()


def log_to_stderr() -> None:
    """Show the package's log."""
    logger = logging.getLogger("videocrafter")
    if not logger.handlers:
        logger.addHandler(StderrHandler())
        logger.setLevel(logging.INFO if is_main_process() else logging.WARNING)


def is_main_process() -> bool:
    """Whether this one speaks for all that train together."""
    return os.environ.get("RANK", "0") == "0"
