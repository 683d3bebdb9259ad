"""The queue loses and doubles nothing, whatever its workers do."""

import threading

import pytest

from videocrafter.web.store.jobs import JobError

REQUEST = {"prompt": "a cat", "seed": 1}


@pytest.fixture
def jobs(studio):
    return studio.jobs


def add(jobs, prompt="a cat", **settings):
    return jobs.add({**REQUEST, "prompt": prompt}, **{"most_queued": 100, **settings})[0]


def order(jobs):
    return [job.request["prompt"] for job in jobs.waiting()]


def test_eight_workers_take_every_job_once(studio, jobs, monkeypatch):
    # Eight writers wait for each other, which takes long on a busy machine.
    monkeypatch.setattr("videocrafter.web.store.database._WAIT_S", 120)
    added = [add(jobs, f"prompt {index}").id for index in range(40)]
    taken = []

    def work(name):
        while (job := jobs.claim(name, attempts=3)) is not None:
            taken.append((job.id, name))
            assert jobs.finish(job.id, name, "done")
        studio.database.close()

    threads = [threading.Thread(target=work, args=(f"worker {index}",)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(job for job, _ in taken) == sorted(added)


def test_the_first_in_order_runs_first_and_moves_change_the_order(jobs):
    a, b, c = (add(jobs, name) for name in "abc")
    jobs.move(c.id, a.id)
    assert order(jobs) == ["c", "a", "b"]
    jobs.move(c.id, None)
    assert order(jobs) == ["a", "b", "c"]
    jobs.move(b.id, b.id)
    assert jobs.claim("w", attempts=3).id == a.id
    with pytest.raises(JobError, match="only waiting jobs can be moved"):
        jobs.move(b.id, a.id)
    assert order(jobs) == ["a", "b", "c"]


def test_a_repeated_key_returns_the_same_job_and_another_request_is_refused(jobs):
    first, is_new = jobs.add(REQUEST, key="k", most_queued=1)
    again, is_new_again = jobs.add(dict(REQUEST), key="k", most_queued=1)
    assert (first.id, is_new, is_new_again) == (again.id, True, False)
    with pytest.raises(JobError) as caught:
        jobs.add({**REQUEST, "seed": 2}, key="k", most_queued=1)
    assert caught.value.code == "idempotency-key-reused"
    with pytest.raises(JobError) as caught:
        jobs.add(REQUEST, most_queued=1)
    assert caught.value.code == "queue-full"


def test_a_dead_worker_gives_its_job_back_and_can_no_longer_change_it(jobs):
    job = add(jobs)
    add(jobs, "second")
    assert jobs.claim("dead", attempts=3).attempts == 1
    assert jobs.release("other") == 0
    assert jobs.release("dead") == 1
    assert jobs.should_stop(job.id, "dead")
    assert not jobs.finish(job.id, "dead", "done")
    jobs.progress(job.id, "dead", step=9, num_steps=9, preview=9)
    # It keeps its place.
    claimed = jobs.claim("new", attempts=3)
    assert (claimed.id, claimed.attempts, claimed.step) == (job.id, 2, 0)
    assert not jobs.should_stop(job.id, "new")


def test_a_job_that_kills_workers_fails_and_pauses_the_queue(jobs):
    job = add(jobs)
    add(jobs, "innocent")
    for _ in range(2):
        jobs.claim("w", attempts=2)
        jobs.release("w")
    assert jobs.claim("w", attempts=2) is None
    assert jobs.get(job.id).state == "failed"
    assert jobs.get(job.id).error["code"] == "interrupted"
    assert jobs.flag("paused") == "interrupted"
    jobs.set_flag("paused", None)
    assert jobs.claim("w", attempts=2).request["prompt"] == "innocent"


def test_stopping_the_studio_is_no_failed_attempt(jobs):
    add(jobs)
    for _ in range(5):
        assert jobs.claim("w", attempts=2) is not None
        jobs.release("w", interrupted=False)


def test_cancelling_waits_for_a_running_job_and_survives_the_worker(jobs):
    running, waiting = add(jobs), add(jobs)
    jobs.claim("w", attempts=3)
    assert jobs.cancel(running.id).state == "running"
    assert jobs.cancel(waiting.id).state == "cancelled"
    assert jobs.should_stop(running.id, "w")
    jobs.release("w")
    assert jobs.get(running.id).state == "cancelled"
    assert jobs.retry(running.id).state == "queued"
    assert not jobs.get(running.id).cancel_requested
    with pytest.raises(JobError):
        jobs.retry(running.id)


def test_only_a_job_that_has_not_started_is_edited(jobs):
    job = add(jobs)
    assert jobs.edit(job.id, {**REQUEST, "prompt": "a dog"}).request["prompt"] == "a dog"
    jobs.claim("w", attempts=3)
    with pytest.raises(JobError, match="only a job that has not started"):
        jobs.edit(job.id, REQUEST)
    with pytest.raises(JobError, match="cancel it first"):
        jobs.remove(job.id)
    jobs.release("w")
    with pytest.raises(JobError):
        jobs.edit(job.id, REQUEST)


def test_equal_failures_in_a_row_pause_the_queue(jobs):
    def end(state, code):
        job = add(jobs)
        jobs.claim("w", attempts=3)
        jobs.finish(job.id, "w", state, None if state == "done" else {"code": code, "message": "m"})
        jobs.pause_after_equal_failures(3)

    for code in ("x", "x", "y", "y"):
        end("failed", code)
    assert jobs.flag("paused") is None
    end("failed", "y")
    assert jobs.flag("paused") == "failures"
    add(jobs)
    assert jobs.claim("w", attempts=3) is None
    # Earlier failures do not count after a resume, and other messages are other reasons.
    jobs.set_flag("paused", None)
    for message in ("m", "m", "other"):
        add(jobs)
        job = jobs.claim("w", attempts=3)
        jobs.finish(job.id, "w", "failed", {"code": "y", "message": message})
        jobs.pause_after_equal_failures(3)
    assert jobs.flag("paused") is None


def test_a_clock_that_jumps_back_changes_no_order_and_loses_nothing(jobs, monkeypatch):
    ids = [jobs.add({"prompt": "a"}, most_queued=9)[0].id for _ in range(2)]
    monkeypatch.setattr("videocrafter.web.store.jobs.time.time", lambda: 1000.0)
    ids.append(jobs.add({"prompt": "a"}, most_queued=9)[0].id)
    for expected in ids:
        assert jobs.claim("w", attempts=3).id == expected
        assert jobs.finish(expected, "w", "done")
    assert sorted(job.id for job in jobs.finished(None, None, 9)) == sorted(ids)


def test_a_live_page_has_one_job_that_gives_way(jobs):
    first = jobs.add_live("page", {**REQUEST, "prompt": "a"}, most_queued=1)
    last = jobs.add_live("page", {**REQUEST, "prompt": "ab"}, most_queued=1)
    with pytest.raises(JobError, match="1 live pages wait"):
        jobs.add_live("other", REQUEST, most_queued=1)
    with pytest.raises(KeyError):
        jobs.get(first.id)
    add(jobs, "queued")
    assert order(jobs) == ["queued"]
    assert jobs.claim("w", attempts=3).request["prompt"] == "queued"
    assert jobs.claim("w", attempts=3).id == last.id
    assert not jobs.should_stop(last.id, "w")
    newer = jobs.add_live("page", {**REQUEST, "prompt": "abc"}, most_queued=1)
    assert jobs.should_stop(last.id, "w")
    jobs.release("w")
    assert jobs.get(last.id).state == "cancelled"
    assert jobs.get(newer.id).state == "queued"


def test_a_live_job_stops_when_another_job_waits(jobs):
    live = jobs.add_live("page", REQUEST, most_queued=1)
    jobs.claim("w", attempts=3)
    add(jobs)
    assert jobs.should_stop(live.id, "w")
