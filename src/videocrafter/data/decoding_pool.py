"""Worker processes that decode, and the watch over them: one that hangs or dies costs one sample, never the run."""

from __future__ import annotations

import atexit
import multiprocessing
import threading
import time
from collections import deque
from multiprocessing.connection import Connection, wait
from typing import Literal

from videocrafter.data.decoding import Answer, DecodingStoppedError, Task, Work
from videocrafter.data.decoding_worker import READY, receive_answer, serve
from videocrafter.data.errors import BadSampleError

StartMethod = Literal["spawn", "fork", "forkserver"]

# Importing may be slow on a cold disk with many workers at once.
_SECONDS_TO_START = 300.0
_KILLED_EARLY_AT_MOST = 3
# One that is worked on and one that waits, so that a worker is never idle while its answer travels.
_TASKS_PER_WORKER = 2
_SECONDS_TO_STOP = 2.0
_SECONDS_BETWEEN_LOOKS = 0.2


class DecodingPool:
    """Does tasks in worker processes.

    Args:
        work: what is done with a task; has to be picklable where workers are spawned.
        num_workers: at least 1.
        start_method: how processes begin. "fork" is the fastest, and unsafe once CUDA or threads are in use.
        time_limit_s: a task that takes longer is given up and its worker replaced.
    """

    def __init__(self, work: Work, *, num_workers: int, start_method: StartMethod, time_limit_s: float) -> None:
        self._work, self._time_limit_s = work, time_limit_s
        self._context = multiprocessing.get_context(start_method)
        self._forked = start_method == "fork"
        self._waiting: deque[int] = deque()
        self._tasks: dict[int, Task] = {}
        self._answers: dict[int, Answer] = {}
        self._suspects: set[int] = set()
        self._stopped = threading.Event()
        self._workers: list[_Worker] = []
        for _ in range(num_workers):
            self._workers.append(self._start())
        # Registered after multiprocessing's own, so it comes before that, which would wait for a decoder that hangs.
        atexit.register(self._end_at_exit)

    def submit(self, number: int, task: Task) -> None:
        """Hand a task to a worker, or keep it until one is free."""
        self._tasks[number] = task
        self._waiting.append(number)
        self._hand_out()

    def take(self, number: int) -> Answer:
        """Wait for an answer.

        Raises:
            RuntimeError: workers cannot be started.
        """
        while number not in self._answers:
            if self._stopped.is_set():
                raise DecodingStoppedError
            self._watch()
            self._hand_out()
        return self._answers.pop(number)

    def stop(self) -> None:
        """From any thread: let `take` raise `DecodingStoppedError` from now on."""
        self._stopped.set()

    def close(self) -> None:
        """End the workers. What they were at is lost."""
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
            target=serve, args=(there, self._work, inherited), daemon=True, name="videocrafter-decoding"
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
                self._bury(worker)

    def _watch(self) -> None:
        """Receive what is there, or wait for it; replace workers that died or hang."""
        by_connection = {worker.connection: worker for worker in self._workers}
        now = time.monotonic()
        patience = min(self._due(worker) for worker in self._workers) - now
        ready = wait(list(by_connection), timeout=max(0.0, min(patience, _SECONDS_BETWEEN_LOOKS)))
        for connection in ready:
            assert isinstance(connection, Connection)
            self._receive(by_connection[connection])
        if ready:
            return
        for worker in list(self._workers):
            if time.monotonic() >= self._due(worker):
                self._give_up(worker)

    def _due(self, worker: _Worker) -> float:
        """When a worker has to be heard from; answers that are there are always received first."""
        if not worker.is_ready:
            return worker.since + _SECONDS_TO_START
        # Decoding looks at the clock itself, and may stop neatly if it gets a little longer.
        return worker.since + 1.25 * self._time_limit_s + 1.0 if worker.numbers else float("inf")

    def _receive(self, worker: _Worker) -> None:
        try:
            message = worker.connection.recv()
            if message == READY:
                worker.is_ready = True
            else:
                number, answer = receive_answer(worker.connection, message)
                worker.numbers.remove(number)
                self._finish(number, answer)
            worker.since = time.monotonic()
        except (EOFError, OSError):
            self._bury(worker)

    def _give_up(self, worker: _Worker) -> None:
        worker.kill()
        if not worker.is_ready:
            raise RuntimeError(f"a decoding worker did not start within {_SECONDS_TO_START:g} s; use fewer workers")
        hung, *others = worker.numbers
        error = BadSampleError("too_slow", f"decoding took longer than {self._time_limit_s:g} s and was stopped")
        self._finish(hung, Answer(result=error, seconds=self._time_limit_s))
        self._replace(worker, others)

    def _bury(self, worker: _Worker) -> None:
        # Pipes may close before their process has ended; killed here, it would not tell how it ends by itself.
        worker.process.join(_SECONDS_TO_STOP)
        worker.kill()
        status = worker.process.exitcode
        if not worker.is_ready:
            # Killed from outside, it is worth another try; one that ends by itself will do so again.
            killed = worker.killed_early + 1
            if status is not None and status < 0 and killed <= _KILLED_EARLY_AT_MOST:
                self._replace(worker, [], killed)
                return
            raise RuntimeError(
                f"a decoding worker ended before it was ready (exit status {status}), see its error above; a script "
                "that makes a loader with start_method='spawn' needs `if __name__ == '__main__':` around its main"
            )
        numbers = list(worker.numbers)
        if status == 0:
            self._replace(worker, numbers)  # somebody asked it to leave
            return
        if len(numbers) == 1:
            # With a single task there is no doubt which one it was.
            error = BadSampleError("crashed", f"decoding ended its process (exit status {status})")
            self._finish(numbers.pop(), Answer(result=error, seconds=time.monotonic() - worker.since))
        self._suspects.update(numbers)
        self._replace(worker, numbers)

    def _replace(self, worker: _Worker, numbers: list[int], killed_early: int = 0) -> None:
        self._waiting.extendleft(reversed(numbers))
        self._workers.remove(worker)
        self._workers.append(self._start(killed_early))

    def _finish(self, number: int, answer: Answer) -> None:
        self._answers[number] = answer
        self._suspects.discard(number)
        del self._tasks[number]


class _Worker:
    """A process and its pipe; `killed_early` counts those before it, in its place, that were killed before READY."""

    def __init__(
        self, process: multiprocessing.process.BaseProcess, connection: Connection, killed_early: int
    ) -> None:
        self.process, self.connection, self.killed_early = process, connection, killed_early
        self.numbers: deque[int] = deque()
        self.is_ready = False
        self.since = time.monotonic()

    def has_room(self, for_suspect: bool, suspects: set[int]) -> bool:
        """A task that may have ended a process before gets a worker to itself, to be found out."""
        if not self.is_ready:
            return False
        if for_suspect or any(number in suspects for number in self.numbers):
            return not self.numbers
        return len(self.numbers) < _TASKS_PER_WORKER

    def give(self, number: int, task: Task) -> None:
        self.connection.send((number, task))
        if not self.numbers:
            self.since = time.monotonic()
        self.numbers.append(number)

    def kill(self) -> None:
        self.connection.close()
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
