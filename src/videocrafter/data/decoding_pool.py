"""A pool of supervised decoding processes. If one hangs or crashes, only its sample is lost."""

from __future__ import annotations

import atexit
import multiprocessing
import threading
import time
from collections import deque
from multiprocessing.connection import Connection, wait
from typing import Literal

from videocrafter.data.decoding import DecodeFunction, DecodingResult, DecodingStoppedError, DecodingTask
from videocrafter.data.decoding_worker import READY, receive_result, serve
from videocrafter.data.errors import BadSampleError

StartMethod = Literal["spawn", "fork", "forkserver"]

# Imports are slow if many workers start at once from a cold disk.
_SECONDS_TO_START = 300.0
_MAX_KILLED_EARLY = 3
# One in progress and one waiting, so that a worker is not idle while its result is transferred.
_TASKS_PER_WORKER = 2
_SECONDS_TO_STOP = 2.0
_POLL_SECONDS = 0.2


class DecodingPool:
    """Does tasks in worker processes.

    Args:
        decode: does a task; must be picklable if workers are spawned.
        num_workers: at least 1.
        start_method: start method of processes. "fork" is the fastest, but unsafe once CUDA or threads are in use.
        time_limit_s: time after which a task is abandoned and its worker replaced, in seconds.
    """

    def __init__(
        self, decode: DecodeFunction, *, num_workers: int, start_method: StartMethod, time_limit_s: float
    ) -> None:
        self._decode, self._time_limit_s = decode, time_limit_s
        self._context = multiprocessing.get_context(start_method)
        self._forked = start_method == "fork"
        self._waiting: deque[int] = deque()
        self._tasks: dict[int, DecodingTask] = {}
        self._results: dict[int, DecodingResult] = {}
        self._suspects: set[int] = set()
        self._stopped = threading.Event()
        self._workers: list[_Worker] = []
        for _ in range(num_workers):
            self._workers.append(self._start())
        # Registered after multiprocessing's handler, so it runs before it; that one would wait for a hanging decoder.
        atexit.register(self._end_at_exit)

    def submit(self, number: int, task: DecodingTask) -> None:
        """Send a task to a worker, or queue it until one is free."""
        self._tasks[number] = task
        self._waiting.append(number)
        self._hand_out()

    def take(self, number: int) -> DecodingResult:
        """Wait for a result.

        Raises:
            DecodingStoppedError: `stop` was called.
            RuntimeError: workers cannot be started.
        """
        while number not in self._results:
            if self._stopped.is_set():
                raise DecodingStoppedError
            self._watch()
            self._hand_out()
        return self._results.pop(number)

    def stop(self) -> None:
        """Make `take` raise `DecodingStoppedError` from now on. May be called from any thread."""
        self._stopped.set()

    def close(self) -> None:
        """Stop the workers and drop their tasks."""
        for worker in self._workers:
            worker.connection.close()
        deadline = time.monotonic() + _SECONDS_TO_STOP
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            worker.kill()
        self._workers.clear()
        atexit.unregister(self._end_at_exit)

    def _end_at_exit(self) -> None:
        self.stop()
        for worker in list(self._workers):
            worker.process.kill()

    def _start(self, killed_early: int = 0) -> _Worker:
        here, there = self._context.Pipe()
        inherited = [worker.connection for worker in self._workers] + [here] if self._forked else []
        process = self._context.Process(  # type: ignore[attr-defined]  # every real context has it
            target=serve, args=(there, self._decode, inherited), daemon=True, name="videocrafter-decoding"
        )
        process.start()
        there.close()
        return _Worker(process, here, killed_early)

    def _hand_out(self) -> None:
        while self._waiting:
            number = self._waiting[0]
            suspect = number in self._suspects
            free = [worker for worker in self._workers if worker.has_room(suspect, self._suspects)]
            if not free:
                return
            worker = min(free, key=lambda worker: len(worker.numbers))
            self._waiting.popleft()
            try:
                worker.give(number, self._tasks[number])
            except OSError:
                self._waiting.appendleft(number)
                self._handle_death(worker)

    def _watch(self) -> None:
        """Receive available results, or wait for some; replace workers that died or hang."""
        by_connection = {worker.connection: worker for worker in self._workers}
        now = time.monotonic()
        patience = min(self._due(worker) for worker in self._workers) - now
        ready = wait(list(by_connection), timeout=max(0.0, min(patience, _POLL_SECONDS)))
        for connection in ready:
            assert isinstance(connection, Connection)
            self._receive(by_connection[connection])
        if ready:
            return
        for worker in list(self._workers):
            if time.monotonic() >= self._due(worker):
                self._handle_hang(worker)

    def _due(self, worker: _Worker) -> float:
        """Return the deadline for a worker's next message. Available messages are always received first."""
        if not worker.is_ready:
            return worker.since + _SECONDS_TO_START
        # Decoding checks the time limit itself; a margin lets it stop cleanly.
        return worker.since + 1.25 * self._time_limit_s + 1.0 if worker.numbers else float("inf")

    def _receive(self, worker: _Worker) -> None:
        try:
            message = worker.connection.recv()
            if message == READY:
                worker.is_ready = True
            else:
                number, result = receive_result(worker.connection, message)
                worker.numbers.remove(number)
                self._finish(number, result)
            worker.since = time.monotonic()
        except (EOFError, OSError):
            self._handle_death(worker)

    def _handle_hang(self, worker: _Worker) -> None:
        worker.kill()
        if not worker.is_ready:
            raise RuntimeError(
                f"a decoding worker did not start within {_SECONDS_TO_START:g} s; set num_workers to a smaller number"
            )
        hung, *others = worker.numbers
        error = BadSampleError("too_slow", f"decoding took longer than {self._time_limit_s:g} s and was stopped")
        self._finish(hung, DecodingResult(outcome=error, seconds=self._time_limit_s))
        self._replace(worker, others)

    def _handle_death(self, worker: _Worker) -> None:
        # A pipe may close before its process has exited. Killing it now would hide its own exit status.
        worker.process.join(_SECONDS_TO_STOP)
        worker.kill()
        status = worker.process.exitcode
        if not worker.is_ready:
            # Retry if it was killed from outside; if it exited by itself, it would do so again.
            killed = worker.killed_early + 1
            if status is not None and status < 0 and killed <= _MAX_KILLED_EARLY:
                self._replace(worker, [], killed)
                return
            raise RuntimeError(
                f"a decoding worker exited before it was ready (exit status {status}); see its error above. With "
                "start_method='spawn', a script must create the loader under `if __name__ == '__main__':`"
            )
        numbers = list(worker.numbers)
        if status == 0:
            self._replace(worker, numbers)  # it was asked to exit
            return
        if len(numbers) == 1:
            # With a single task, that task is to blame.
            error = BadSampleError("crashed", f"decoding crashed its process (exit status {status})")
            self._finish(numbers.pop(), DecodingResult(outcome=error, seconds=time.monotonic() - worker.since))
        self._suspects.update(numbers)
        self._replace(worker, numbers)

    def _replace(self, worker: _Worker, numbers: list[int], killed_early: int = 0) -> None:
        self._waiting.extendleft(reversed(numbers))
        self._workers.remove(worker)
        self._workers.append(self._start(killed_early))

    def _finish(self, number: int, result: DecodingResult) -> None:
        self._results[number] = result
        self._suspects.discard(number)
        del self._tasks[number]


class _Worker:
    """A process and its pipe. `killed_early` counts its predecessors that were killed before they were ready."""

    def __init__(
        self, process: multiprocessing.process.BaseProcess, connection: Connection, killed_early: int
    ) -> None:
        self.process, self.connection, self.killed_early = process, connection, killed_early
        self.numbers: deque[int] = deque()
        self.is_ready = False
        self.since = time.monotonic()

    def has_room(self, for_suspect: bool, suspects: set[int]) -> bool:
        """Return whether the worker can take a task. A task suspected of a crash gets a worker to itself."""
        if not self.is_ready:
            return False
        if for_suspect or any(number in suspects for number in self.numbers):
            return not self.numbers
        return len(self.numbers) < _TASKS_PER_WORKER

    def give(self, number: int, task: DecodingTask) -> None:
        self.connection.send((number, task))
        if not self.numbers:
            self.since = time.monotonic()
        self.numbers.append(number)

    def kill(self) -> None:
        self.connection.close()
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
