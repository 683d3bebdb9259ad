"""Stop a run on Ctrl-C, SIGTERM or a time limit: it finishes its step and saves.

A cluster signals the launcher and the processes, and the launcher forwards its signal to the processes. They count
both as one request.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_log = logging.getLogger(__name__)

_FORWARDING_S = 5.0


class StopRequest:
    """Context manager in which a first SIGINT or SIGTERM asks the run to stop and a second one ends it at once.

    Args:
        stop_after_s: seconds after which the run is asked to stop; None for no limit.
        launched: whether a launcher started this process, so that signals soon after the first one are ignored as
            forwarded copies.
    """

    def __init__(self, stop_after_s: float | None = None, *, launched: bool = False) -> None:
        self.signal: int | None = None
        self._forwarding_s = _FORWARDING_S if launched else 0.0
        self._signalled = 0.0
        self._stop_after_s = stop_after_s
        self._entered = time.monotonic()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        self._entered = time.monotonic()
        # Only the main thread can handle signals.
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
            if time.monotonic() - self._signalled < self._forwarding_s:
                return
            raise KeyboardInterrupt
        self.signal, self._signalled = number, time.monotonic()
        _log.info("Stopping after this step and saving. Press Ctrl-C again to quit at once.")
