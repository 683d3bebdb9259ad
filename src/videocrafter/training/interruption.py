"""Ctrl-C, SIGTERM and a time limit: asked to stop, a run finishes its step and saves."""

from __future__ import annotations

import logging
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_log = logging.getLogger(__name__)


class StopRequest:
    """While entered, the first SIGINT or SIGTERM asks the run to stop and a second one ends it at once.

    Args:
        stop_after_s: also ask after this many seconds from entering; None is never.
    """

    def __init__(self, stop_after_s: float | None = None) -> None:
        self.signal: int | None = None
        self._stop_after_s = stop_after_s
        self._entered = time.monotonic()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        self._entered = time.monotonic()
        # Only the main thread may handle signals; in another one, whoever started it decides.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def requested(self) -> bool:
        """Whether the run should stop after this step."""
        if self.signal is not None:
            return True
        return self._stop_after_s is not None and time.monotonic() - self._entered >= self._stop_after_s

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        _log.info("Stopping: this step is finished and saved first. Press Ctrl-C again to quit at once.")
