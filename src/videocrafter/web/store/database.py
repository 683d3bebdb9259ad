"""Connections to the studio's database: write-ahead log, one connection per thread, migrations with a backup."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from videocrafter.web.store.schema import MIGRATIONS

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_WAIT_S = 5.0
_RETRY_S = 2.0


class DatabaseTooNewError(ValueError):
    """The database was written by a later version of the studio."""


class Database:
    """A SQLite file that threads and processes share. Every change is on disk when `writing` returns.

    Raises sqlite3.OperationalError from its methods if another process holds the database for more than 5 seconds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection of this thread."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)
            connection.row_factory = sqlite3.Row
            _use_write_ahead_log(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            self._local.connection = connection
        return connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection inside a transaction that holds the write lock from its beginning."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            # SQLite ends a transaction itself when the disk is full; that error must be the one that is reported.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def read(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Return all rows of a query."""
        return self.connection.execute(query, values).fetchall()

    def version(self) -> int:
        """Return a number that changes when another connection has written."""
        number: int = self.connection.execute("PRAGMA data_version").fetchone()[0]
        return number

    def close(self) -> None:
        """Close the connection of this thread."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None


def open_database(path: Path) -> Database:
    """Open a database, creating or migrating it; keeps a copy `NAME.vN` of every older version.

    Raises DatabaseTooNewError for a database of a later version.
    """
    database = Database(path)
    # The lock comes first: server and worker may open a new database at the same time.
    with database.writing() as connection:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise DatabaseTooNewError(
                f"{path} has version {version}, but this studio knows only {len(MIGRATIONS)}; update videocrafter,"
                " or choose another folder with --data"
            )
        if 0 < version < len(MIGRATIONS):
            _copy(path, path.with_name(f"{path.name}.v{version}"))
        for script in MIGRATIONS[version:]:
            for statement in _statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    return database


def patiently(change: Callable[[], _T]) -> _T:
    """Return the result of a change. Repeats it while the database is locked or its disk is full."""
    while True:
        try:
            return change()
        except sqlite3.OperationalError as error:  # noqa: PERF203 (rare)
            if not any(word in str(error) for word in ("locked", "busy", "full")):
                raise
            _log.warning("the database does not take a change (%s); it is repeated", error)
            time.sleep(_RETRY_S)


def read_json(text: str) -> Any:
    """Parse a stored JSON text. Half of a surrogate pair, which no answer can contain, becomes a question mark."""
    value = json.loads(text)
    if "\\ud" not in text:
        return value
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch a database to the write-ahead log.

    SQLite does not wait for the lock here when two connections switch a new database at once: one fails immediately,
    whatever its timeout.
    """
    give_up = time.monotonic() + _WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:  # noqa: PERF203 (rare)
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


def _copy(path: Path, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


def _statements(script: str) -> Iterator[str]:
    """Split a script. sqlite3's own `executescript` would end the transaction."""
    statement = ""
    for line in script.splitlines():
        statement += f"{line}\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
