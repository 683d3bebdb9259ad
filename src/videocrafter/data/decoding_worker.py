"""The decoding process, which isolates crashes, leaks and endless loops of decoders."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, TypeAlias

import numpy as np

from videocrafter.data.cutting import CutClip
from videocrafter.data.decoding import DecodeFunction, DecodingResult, run_task
from videocrafter.data.errors import BadSampleError

READY = "ready"
"""First message of a worker."""

Header: TypeAlias = tuple[Any, ...]

_POLL_SECONDS = 1.0
_SECONDS_TO_DELIVER = 5.0


def serve(connection: Connection, decode: DecodeFunction, others: Sequence[Connection]) -> None:
    """Do tasks until the connection closes or the parent process ends.

    Args:
        connection: receives (number, task), sends results.
        decode: does a task.
        others: the parent's ends of all pipes; a forked process inherits them and must close them.
    """
    for other in others:
        other.close()
    departure = _Departure()
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)  # there is a worker per core, and OpenMP does not survive a fork
    try:
        connection.send(READY)
    except OSError:
        return  # the parent no longer waits for it
    # Sending blocks while the reader is busy; a thread sends, so that the next clip is decoded meanwhile.
    results: queue.Queue[tuple[int, DecodingResult]] = queue.Queue(maxsize=1)
    threading.Thread(target=_send_all, args=(connection, results), daemon=True).start()
    while True:
        while not connection.poll(_POLL_SECONDS):
            if departure.is_due(everything_sent=not results.unfinished_tasks):
                return
        try:
            number, task = connection.recv()
        except (EOFError, OSError):
            return
        results.put((number, run_task(decode, task)))


class _Departure:
    """Decides when a worker exits by itself.

    Signals to the whole process group (Ctrl-C, or SIGTERM from a cluster) are left to the parent, which may want to
    save first. After SIGTERM, a worker continues while it has tasks and then exits. A killed parent sends nothing,
    and other workers may hold its end of the pipe open, so the worker polls whether its parent is alive.
    """

    def __init__(self) -> None:
        self._parent = os.getppid()  # with "forkserver", the server, which ends with its client
        self._terminated_at: float | None = None
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_terminate)

    def is_due(self, *, everything_sent: bool) -> bool:
        """Return whether to exit now, while there is no task."""
        if os.getppid() != self._parent:
            return True
        if self._terminated_at is None:
            return False
        return everything_sent or time.monotonic() - self._terminated_at > _SECONDS_TO_DELIVER

    def _on_terminate(self, signal_number: int, frame: FrameType | None) -> None:
        self._terminated_at = time.monotonic()


def _send_all(connection: Connection, results: queue.Queue[tuple[int, DecodingResult]]) -> None:
    try:
        while True:
            number, result = results.get()
            send_result(connection, number, result)
            results.task_done()
    except OSError:
        os._exit(0)  # the parent has closed the pipe


def send_result(connection: Connection, number: int, result: DecodingResult) -> None:
    """Send a result. Pixels are sent directly, without copying them into a pickle."""
    outcome = result.outcome
    if isinstance(outcome, BadSampleError):
        connection.send((number, result.seconds, None, outcome.reason, str(outcome)))
        return
    assert isinstance(outcome, CutClip)  # workers get no cached cuts
    connection.send((number, result.seconds, outcome.pixels.shape, outcome.caption, outcome.fps))
    connection.send_bytes(outcome.pixels.data.cast("B"))


def receive_result(connection: Connection, header: Header) -> tuple[int, DecodingResult]:
    """Receive the rest of a result sent by `send_result`, after its header."""
    number, seconds, shape, text, value = header
    if shape is None:
        return number, DecodingResult(outcome=BadSampleError(text, value), seconds=seconds)
    pixels = np.empty(shape, np.uint8)
    connection.recv_bytes_into(pixels.data.cast("B"))
    return number, DecodingResult(outcome=CutClip(pixels=pixels, caption=text, fps=value), seconds=seconds)
