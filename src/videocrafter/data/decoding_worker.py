"""The process in which clips are decoded, so that damage, leaks and endless loops stay in there."""

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
from videocrafter.data.decoding import Answer, Work, do
from videocrafter.data.errors import BadSampleError

READY = "ready"
"""What a worker says first."""

Header: TypeAlias = tuple[Any, ...]

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_DELIVER = 5.0


def serve(connection: Connection, work: Work, others: Sequence[Connection]) -> None:
    """Do tasks until the other end closes or its process is gone.

    Args:
        connection: brings (number, task), takes answers.
        work: what is done.
        others: the parent's ends of all pipes, which a forked process inherits and has to close.
    """
    for other in others:
        other.close()
    goodbye = _Goodbye()
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)  # workers are as many as cores; and OpenMP does not survive a fork
    try:
        connection.send(READY)
    except OSError:
        return  # nobody waits for it any more
    # Sending waits for the reader, who may be busy; meanwhile the next clip is decoded.
    answers: queue.Queue[tuple[int, Answer]] = queue.Queue(maxsize=1)
    threading.Thread(target=_send_all, args=(connection, answers), daemon=True).start()
    while True:
        while not connection.poll(_SECONDS_BETWEEN_LOOKS):
            if goodbye.is_due(everything_sent=not answers.unfinished_tasks):
                return
        try:
            number, task = connection.recv()
        except (EOFError, OSError):
            return
        answers.put((number, do(work, task)))


class _Goodbye:
    """When a worker leaves of its own accord.

    Signals that end a whole group of processes, Ctrl-C or a cluster's SIGTERM, are the parent's business: it may want
    to save first. After a SIGTERM a worker goes on while there is work, and leaves once there is none. A parent that
    was killed says nothing, and its other workers may hold its end of the pipe open, so it is looked for.
    """

    def __init__(self) -> None:
        self._parent = os.getppid()  # with "forkserver" the server, which ends with the process that it serves
        self._asked_at: float | None = None
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._asked)

    def is_due(self, *, everything_sent: bool) -> bool:
        """Whether to leave now, there being nothing to do."""
        if os.getppid() != self._parent:
            return True
        if self._asked_at is None:
            return False
        return everything_sent or time.monotonic() - self._asked_at > _SECONDS_TO_DELIVER

    def _asked(self, signal_number: int, frame: FrameType | None) -> None:
        self._asked_at = time.monotonic()


def _send_all(connection: Connection, answers: queue.Queue[tuple[int, Answer]]) -> None:
    try:
        while True:
            number, answer = answers.get()
            send_answer(connection, number, answer)
            answers.task_done()
    except OSError:
        os._exit(0)  # nobody listens any more


def send_answer(connection: Connection, number: int, answer: Answer) -> None:
    """Send an answer; pixels go as they are, without being copied into a message."""
    result = answer.result
    if isinstance(result, BadSampleError):
        connection.send((number, answer.seconds, None, result.reason, str(result)))
        return
    assert isinstance(result, CutClip)  # what is known already is not given to a worker
    connection.send((number, answer.seconds, result.pixels.shape, result.caption, result.fps))
    connection.send_bytes(result.pixels.data.cast("B"))


def receive_answer(connection: Connection, header: Header) -> tuple[int, Answer]:
    """Receive what `send_answer` sent, its header having been received already."""
    number, seconds, shape, text, value = header
    if shape is None:
        return number, Answer(result=BadSampleError(text, value), seconds=seconds)
    pixels = np.empty(shape, np.uint8)
    connection.recv_bytes_into(pixels.data.cast("B"))
    return number, Answer(result=CutClip(pixels=pixels, caption=text, fps=value), seconds=seconds)
