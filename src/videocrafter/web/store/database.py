"""Connections to the studio's database: write-ahead log, one connection per thread, migrations with a backup."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from videocrafter.web.store.schema import MIGRATIONS

_WAIT_S = 5.0


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
            connection.execute("PRAGMA journal_mode = WAL")
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
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

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
    connection = database.connection
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise DatabaseTooNewError(
            f"{path} has version {version}, but this studio knows only {len(MIGRATIONS)}; update videocrafter, or"
            " choose another folder with --data"
        )
    if 0 < version < len(MIGRATIONS):
        with sqlite3.connect(path.with_name(f"{path.name}.v{version}")) as copy:
            connection.backup(copy)
        copy.close()
    for number in range(version, len(MIGRATIONS)):
        # One transaction per version: executescript would commit one that was open.
        connection.executescript(f"BEGIN IMMEDIATE;{MIGRATIONS[number]}PRAGMA user_version = {number + 1};COMMIT;")
    return database
