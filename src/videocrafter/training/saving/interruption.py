"""Ctrl-C, SIGTERM and a time limit: asked to stop, a run finishes its step and saves.

A cluster tells the launcher and the processes alike, and the launcher then tells the processes once more: that is one
request, not two.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_log = logging.getLogger(__name__)

_SECONDS_OF_ECHO = 5.0


class StopRequest:
    """While entered, the first SIGINT or SIGTERM asks the run to stop and a second one ends it at once.

    Args:
        stop_after_s: also ask after this many seconds from entering; None is never.
        launched: whether a launcher started this process; signals soon after the first are then echoes of it.
    """

    def __init__(self, stop_after_s: float | None = None, *, launched: bool = False) -> None:
        self.signal: int | None = None
        self._seconds_of_echo = _SECONDS_OF_ECHO if launched else 0.0
        self._signalled = 0.0
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
            if time.monotonic() - self._signalled < self._seconds_of_echo:
                return
            raise KeyboardInterrupt
        self.signal, self._signalled = number, time.monotonic()
        _log.info("Stopping: this step is finished and saved first. Press Ctrl-C again to quit at once.")
