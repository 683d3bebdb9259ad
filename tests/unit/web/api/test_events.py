import asyncio
import sqlite3

import pytest

from videocrafter.web.api.events import EventHub, _missed, as_text
from videocrafter.web.problems import Problem
from videocrafter.web.store.database import Database
from videocrafter.web.store.jobs import JobStore


def test_changes_of_any_process_reach_all_streams(studio):
    other = JobStore(Database(studio.folder.database))

    async def watch():
        hub = EventHub(studio)
        streams = [hub.join(), hub.join()]
        await asyncio.sleep(0.15)
        job, _ = other.add({"prompt": "a"}, most_queued=9)
        other.claim("w", attempts=3)
        for step in range(1, 4):
            other.progress(job.id, "w", step=step, num_steps=9, preview=step)
        texts = [await asyncio.wait_for(stream.get(), 5) for stream in streams for _ in range(2)]
        hub.leave(streams[0])
        await hub.stop()
        return job.id, texts

    job, texts = asyncio.run(watch())
    assert texts[:2] == texts[2:]
    assert texts[0].splitlines()[1:] == ["event: queue", f'data: {{"id": "{job}"}}', ""]
    # Of several about one job, only the newest is sent.
    assert f'{{"id": "{job}", "step": 3, "num_steps": 9, "preview": 3}}' in texts[1]


def test_a_reader_that_comes_back_gets_what_it_missed(studio):
    studio.jobs.add({"prompt": "a"}, most_queued=9)
    seen = studio.events.newest()
    assert _missed(studio, None) == []
    assert _missed(studio, str(seen)) == []
    studio.jobs.add({"prompt": "b"}, most_queued=9)
    assert _missed(studio, str(seen)) == [as_text(event) for event in studio.events.after(seen)]
    for strange in ("x", "-1", ""):
        assert "reset" in _missed(studio, strange)[0]
    studio.database.connection.execute("DELETE FROM events WHERE number <= ?", (seen + 1,))
    studio.jobs.add({"prompt": "c"}, most_queued=9)
    assert "reset" in _missed(studio, str(seen - 1))[0]


def test_a_slow_reader_is_reset_and_too_many_are_refused(studio):
    async def run():
        hub = EventHub(studio)
        quick, slow, last = hub.join(), hub.join(), hub.join()
        # The slow one comes between: its reset must reach no other.
        hub.streams = dict.fromkeys([quick, slow, last])
        for index in range(501):
            hub._send(f"event {index}")
            assert quick.get_nowait() == last.get_nowait() == f"event {index}"
        assert slow.qsize() == 1
        assert "reset" in slow.get_nowait()
        object.__setattr__(studio.limits, "event_streams", 3)
        with pytest.raises(Problem, match="3 pages"):
            hub.join()
        await hub.stop()

    asyncio.run(run())


def test_the_poll_survives_an_error_of_the_database(studio, monkeypatch):
    monkeypatch.setattr("videocrafter.web.api.events._RETRY_S", 0.01)
    failures = iter([True, False])
    original = studio.events.newest

    def newest():
        if next(failures, False):
            raise sqlite3.OperationalError("database is locked")
        return original()

    monkeypatch.setattr(studio.events, "newest", newest)

    async def watch():
        hub = EventHub(studio)
        stream = hub.join()
        await asyncio.sleep(0.5)
        studio.jobs.add({"prompt": "a"}, most_queued=9)
        JobStore(Database(studio.folder.database)).add({"prompt": "b"}, most_queued=9)
        text = await asyncio.wait_for(stream.get(), 5)
        hub.end_streams()
        assert await stream.get() is None
        await hub.stop()
        return text

    assert "event: queue" in asyncio.run(watch())


def test_a_number_that_no_database_has_resets(studio):
    for strange in ("9" * 5000, str(2**63)):
        assert "reset" in _missed(studio, strange)[0]
