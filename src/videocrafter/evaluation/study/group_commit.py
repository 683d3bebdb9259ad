"""One thread that owns the database and commits many requests with one flush of the disk."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")

_MOST_TOGETHER = 128


class GroupCommit:
    """Runs work inside transactions, in the order of its arrival.

    Everything that waits is done in one transaction, because flushing the disk takes most of the time of a small one.
    A result is handed out only after its transaction is on disk. Work that fails is undone alone.

    Attributes:
        connection: the database, to be used inside work only.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._waiting: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="study-database", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run `work` in the database's thread; return its result, or raise its error, after the commit.

        Raises:
            sqlite3.OperationalError: the database is locked by another process, or the disk is full.
        """
        future: Future[Result] = Future()
        self._waiting.put((work, future))
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
            works = [one for one in batch if one is not None and one[1].set_running_or_notify_cancel()]
            if works:
                self._commit(works)

    def _commit(self, works: list[tuple[Callable[[], Any], Future[Any]]]) -> None:
        outcomes: list[tuple[Any, BaseException | None]] = []
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            for work, _ in works:
                self.connection.execute("SAVEPOINT work")
                try:
                    outcomes.append((work(), None))
                except Exception as error:  # noqa: BLE001  # whatever it is, the caller gets it
                    self.connection.execute("ROLLBACK TO work")
                    outcomes.append((None, error))
                self.connection.execute("RELEASE work")
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            outcomes = [(None, error)] * len(works)
        for (_, future), (result, failure) in zip(works, outcomes, strict=True):
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)
