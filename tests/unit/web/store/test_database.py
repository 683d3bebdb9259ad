import sqlite3

import pytest

from videocrafter.web.store import database, schema
from videocrafter.web.store.database import DatabaseTooNewError, open_database


def test_an_older_database_is_migrated_and_kept(tmp_path, monkeypatch):
    path = tmp_path / "studio.sqlite3"
    open_database(path).close()
    newer = (*schema.MIGRATIONS, "ALTER TABLE uploads ADD COLUMN note TEXT;")
    monkeypatch.setattr(database, "MIGRATIONS", newer)
    migrated = open_database(path)
    assert migrated.read("SELECT note FROM uploads") == []
    with sqlite3.connect(tmp_path / "studio.sqlite3.v1") as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (1,)
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


def test_many_open_a_new_database_at_once(tmp_path):
    import threading

    failed = []

    def start():
        try:
            open_database(tmp_path / "d").close()
        except sqlite3.Error as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
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
