"""The supervisor outlives errors, and can be stopped at any time. No process is started here."""

import sqlite3
import time
from types import SimpleNamespace

from videocrafter.web.worker.supervisor import Supervisor


def test_a_worker_that_cannot_start_and_a_busy_database_do_not_end_it(studio, monkeypatch):
    monkeypatch.setattr("videocrafter.web.worker.supervisor._RETRY_S", 0.001)
    supervisor = Supervisor(studio)
    starts, releases = [], []

    def fail_to_start(owner):
        starts.append(owner)
        if len(starts) == 2:
            supervisor._stopping.set()
        raise OSError("no memory for a process")

    def release(owner, *, interrupted):
        releases.append(owner)
        if len(releases) == 1:
            raise sqlite3.OperationalError("database is locked")
        return 0

    monkeypatch.setattr(supervisor, "_run_one", fail_to_start)
    monkeypatch.setattr(studio.jobs, "release", release)
    supervisor.start()
    supervisor._thread.join(10)
    assert not supervisor._thread.is_alive()
    assert releases == [starts[0], starts[0], starts[1]]
    supervisor.stop()


def test_it_can_be_stopped_before_its_start(studio):
    Supervisor(studio).stop()


def test_a_worker_that_is_silent_is_not_alive(studio):
    supervisor = Supervisor(studio)
    assert not supervisor.is_alive
    supervisor._process = SimpleNamespace(is_alive=lambda: True)
    supervisor._heard_s = time.monotonic()
    assert supervisor.is_alive
    supervisor._heard_s -= 11
    assert not supervisor.is_alive
    supervisor._process = None
