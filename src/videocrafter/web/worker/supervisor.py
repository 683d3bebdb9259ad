"""Start a worker process, watch it, and start another when it dies."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import sqlite3
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from videocrafter.web.studio import Studio
from videocrafter.web.worker.process import work

_log = logging.getLogger(__name__)
_SILENCE_S = 60.0
_LATELY_S = 10.0
_STOP_S = 5.0
_RETRY_S = 2.0


class Supervisor:
    """Keeps one worker alive. Its jobs return to the queue when it dies.

    Args:
        studio: the server's.
        device: on which the worker makes videos.
        threads: of the processor that the worker may use; None leaves it to the library.
        silence_s: a worker that sends nothing for so long is killed.
    """

    def __init__(
        self, studio: Studio, *, device: str = "auto", threads: int | None = None, silence_s: float = _SILENCE_S
    ) -> None:
        self.studio = studio
        self.device = device
        self.threads = threads
        self.silence_s = silence_s
        self.restarts = 0
        self._stopping = threading.Event()
        self._process: BaseProcess | None = None
        self._sending = threading.Lock()
        self._connection: Connection | None = None
        self._heard_s = 0.0
        self._numbers = itertools.count()
        self._answers: dict[int, dict[str, Any]] = {}
        self._answered = threading.Condition()
        self._thread = threading.Thread(target=self._supervise, name=f"supervisor of {device}", daemon=True)

    def start(self) -> None:
        """Start the worker."""
        self._thread.start()

    def terminate(self) -> None:
        """Ask the worker to end, and start no other."""
        self._stopping.set()
        process = self._process
        if process is not None and process.is_alive():
            process.terminate()

    def stop(self) -> None:
        """End the worker; a job that runs returns to the queue. May be called twice, and before `start`."""
        self.terminate()
        if self._thread.ident is not None:
            self._thread.join(_STOP_S)

    @property
    def is_alive(self) -> bool:
        """Whether the worker runs and was heard of lately."""
        process = self._process
        lately = time.monotonic() - self._heard_s < _LATELY_S
        return process is not None and process.is_alive() and lately

    @property
    def pid(self) -> int | None:
        """Process id of the worker."""
        return None if self._process is None else self._process.pid

    def estimate(self, request: Mapping[str, Any], timeout_s: float = 3.0) -> dict[str, Any] | None:
        """Ask the worker for the memory of a request; None if it does not answer in time, as while it starts."""
        connection, number = self._connection, next(self._numbers)
        if connection is None:
            return None
        try:
            # Threads of the server share the connection.
            with self._sending:
                connection.send((number, dict(request)))
        except OSError:
            return None
        with self._answered:
            self._answered.wait_for(lambda: number in self._answers, timeout_s)
            return self._answers.pop(number, None)

    def _supervise(self) -> None:
        while not self._stopping.is_set():
            owner = uuid.uuid4().hex
            try:
                self._run_one(owner)
            except Exception:  # noqa: BLE001 (such as no memory for a process: the next one may start)
                _log.exception("the worker could not be started or watched")
            self._release(owner)
            if not self._stopping.is_set():
                self.restarts += 1
                # A worker that dies at its start must not take the whole processor.
                self._stopping.wait(min(10.0, 0.2 * self.restarts))

    def _release(self, owner: str) -> None:
        """Put the jobs of a worker that ended back into the queue. Tries until the database takes it."""
        while True:
            try:
                released = self.studio.jobs.release(owner, interrupted=not self._stopping.is_set())
            except sqlite3.Error:  # noqa: PERF203 (rare)
                _log.exception("the jobs of the ended worker cannot return to the queue yet")
                if self._stopping.wait(_RETRY_S):
                    return  # the next start of the studio releases them
            else:
                if not self._stopping.is_set():
                    _log.warning(
                        "the worker on %s ended; %d jobs return to the queue, and a new worker starts",
                        self.device,
                        released,
                    )
                return

    def _run_one(self, owner: str) -> None:
        """Run one worker until it ends."""
        # Not forked: threads and a database are open here, and CUDA does not survive a fork.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        config = replace(self.studio.config, devices=(self.device,))
        process = context.Process(target=work, args=(config, owner, theirs, self.threads), daemon=True)
        process.start()
        theirs.close()
        self._process, self._connection, self._heard_s = process, ours, time.monotonic()
        if self._stopping.is_set():
            process.terminate()
        try:
            while self._listen(ours):
                if time.monotonic() - self._heard_s > self.silence_s:
                    _log.warning("the worker is silent for %.0f s and is ended", self.silence_s)
                    process.kill()
        finally:
            self._connection = None
            ours.close()
            process.join(_STOP_S)
            if process.is_alive():
                process.kill()
                process.join()

    def _listen(self, connection: Connection) -> bool:
        """Receive one message; return False when the worker is gone."""
        try:
            if not connection.poll(0.5):
                return True
            message = connection.recv()
        except (EOFError, OSError):
            return False
        self._heard_s = time.monotonic()
        if message[0] == "estimate":
            with self._answered:
                self._answers[message[1]] = message[2]
                while len(self._answers) > 100:
                    del self._answers[min(self._answers)]
                self._answered.notify_all()
        return True
