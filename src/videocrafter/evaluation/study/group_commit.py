"""One thread that owns the database and commits many requests with one flush of the disk."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")

_MOST_TOGETHER = 128
_LONGEST_WAIT_MS = 100


@dataclass(frozen=True)
class _Job:
    work: Callable[[], Any]
    future: Future[Any]
    clear_log: bool


class GroupCommit:
    """Runs work inside transactions, in the order of its arrival.

    Everything that waits is done in one transaction, because flushing the disk takes most of the time of a small one.
    A result is handed out only after its transaction is on disk. Work that fails is undone alone.

    Attributes:
        connection: the database, to be used inside work only.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # A process that was killed may have left deleted answers in the log.
        self._clear_log = True
        self._thread = threading.Thread(target=self._serve, name="study-database", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[], Result], *, clear_log: bool = False) -> Result:
        """Run `work` in the database's thread; return its result, or raise its error, after the commit.

        Args:
            work: what to do.
            clear_log: whether it deletes something, which must not stay readable in the write-ahead log either.

        Raises:
            sqlite3.OperationalError: the database is locked by another process, or the disk is full.
        """
        future: Future[Result] = Future()
        self._waiting.put(_Job(work, future, clear_log))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Finish what waits, and close the database."""
        self._waiting.put(None)
        self._thread.join()
        self.connection.close()

    def _serve(self) -> None:
        is_open = True
        while is_open:
            batch = [self._waiting.get()]
            while len(batch) < _MOST_TOGETHER and not self._waiting.empty():
                batch.append(self._waiting.get())
            is_open = None not in batch
            jobs = [one for one in batch if one is not None and one.future.set_running_or_notify_cancel()]
            if jobs:
                self._commit(jobs)

    def _commit(self, jobs: list[_Job]) -> None:
        outcomes: list[tuple[Any, BaseException | None]] = []
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self.connection.execute("SAVEPOINT work")
                try:
                    outcomes.append((job.work(), None))
                except Exception as error:  # noqa: BLE001  # whatever it is, the caller gets it
                    self.connection.execute("ROLLBACK TO work")
                    outcomes.append((None, error))
                self.connection.execute("RELEASE work")
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            outcomes = [(None, error)] * len(jobs)
        else:
            self._clear_log |= any(
                job.clear_log and not error for job, (_, error) in zip(jobs, outcomes, strict=True)
            )
            if self._clear_log:
                self._truncate()
        for job, (result, failure) in zip(jobs, outcomes, strict=True):
            if failure is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(failure)

    def _truncate(self) -> None:
        """Move the log into the database and empty it. While somebody else reads, it stays until the next commit."""
        waits = self.connection.execute("PRAGMA busy_timeout").fetchone()[0]
        try:
            self.connection.execute(f"PRAGMA busy_timeout = {_LONGEST_WAIT_MS}")
            self._clear_log = bool(self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        except sqlite3.Error:
            self._clear_log = True
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {waits}")
