import sqlite3
import threading

import pytest

from videocrafter.web.store import database, schema
from videocrafter.web.store.database import DatabaseTooNewError, open_database, patiently, read_json


def test_an_older_database_is_migrated_and_kept(tmp_path, monkeypatch):
    path = tmp_path / "studio.sqlite3"
    open_database(path).close()
    newer = (*schema.MIGRATIONS, "ALTER TABLE uploads ADD COLUMN note TEXT;")
    monkeypatch.setattr(database, "MIGRATIONS", newer)
    migrated = open_database(path)
    assert migrated.read("SELECT note FROM uploads") == []
    version = len(schema.MIGRATIONS)
    with sqlite3.connect(tmp_path / f"studio.sqlite3.v{version}") as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (version,)
    copy.close()
    migrated.close()
    monkeypatch.setattr(database, "MIGRATIONS", schema.MIGRATIONS)
    with pytest.raises(DatabaseTooNewError, match="update videocrafter"):
        open_database(path)


def test_a_failed_transaction_changes_nothing(tmp_path):
    store = open_database(tmp_path / "d")

    def fail():
        with store.writing() as connection:
            connection.execute("INSERT INTO flags VALUES ('a', 'b')")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.read("SELECT * FROM flags") == []


def test_several_open_a_new_database_at_once(tmp_path):
    failed = []

    def start(path, together):
        together.wait()
        try:
            open_database(path).close()
        except sqlite3.Error as error:
            failed.append(error)

    for number in range(30):  # without waiting for the lock, one in ten fails
        arguments = (tmp_path / f"{number}", threading.Barrier(3))
        threads = [threading.Thread(target=start, args=arguments) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []


def test_a_full_disk_is_reported_as_such(tmp_path):
    store = open_database(tmp_path / "d")
    pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
    store.connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"), store.writing() as connection:
        connection.execute("INSERT INTO flags VALUES ('a', ?)", ("x" * 10**6,))
    store.connection.execute("PRAGMA max_page_count = 1000000")
    with store.writing() as connection:
        connection.execute("INSERT INTO flags VALUES ('a', 'b')")


def test_a_change_is_repeated_while_the_database_is_locked_or_its_disk_full(monkeypatch):
    monkeypatch.setattr(database, "_RETRY_S", 0.0)
    failures = ["database is locked", "database or disk is full"]

    def change():
        if failures:
            raise sqlite3.OperationalError(failures.pop())
        return 7

    assert patiently(change) == 7
    failures.append("no such table: jobs")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        patiently(change)


def test_a_failed_commit_leaves_no_open_transaction(tmp_path):
    store = open_database(tmp_path / "d")
    with store.writing() as connection:
        connection.execute("CREATE TABLE a (id INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE b (a INTEGER REFERENCES a DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(sqlite3.IntegrityError), store.writing() as connection:
        connection.execute("INSERT INTO b VALUES (1)")
    with store.writing() as connection:
        connection.execute("INSERT INTO flags VALUES ('a', 'b')")


def test_stored_halves_of_surrogate_pairs_are_replaced_and_whole_ones_kept():
    assert read_json(r'{"prompt": "\ud800 \ud83d\ude00"}') == {"prompt": "? \U0001f600"}
