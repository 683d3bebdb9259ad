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
    assert jobs.retry(running.id, most_queued=9).state == "queued"
    assert not jobs.get(running.id).cancel_requested
    with pytest.raises(JobError):
        jobs.retry(running.id, most_queued=9)


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


def test_a_cancellation_can_be_taken_back(jobs):
    job = add(jobs)
    for stops_first in (False, True):
        jobs.claim("w", attempts=3)
        jobs.cancel(job.id)
        assert jobs.should_stop(job.id, "w")
        again = jobs.retry(job.id, most_queued=0)
        assert (again.state, again.cancel_requested) == ("running", False)
        assert not jobs.should_stop(job.id, "w")
        # The worker may have seen the cancellation already; the job then waits in its old place.
        jobs.finish(job.id, "w", "cancelled" if stops_first else "done")
        found = jobs.get(job.id)
        assert (found.state, found.attempts, found.finished_s is None) == (
            ("queued", 0, True) if stops_first else ("done", 1, False)
        )
        job = add(jobs) if not stops_first else job


def test_running_again_needs_room_in_the_queue(jobs):
    job = add(jobs)
    jobs.cancel(job.id)
    add(jobs)
    with pytest.raises(JobError) as caught:
        jobs.retry(job.id, most_queued=1)
    assert caught.value.code == "queue-full"
    assert jobs.get(job.id).state == "cancelled"
    assert jobs.retry(job.id, most_queued=2).state == "queued"


def test_a_live_job_that_ends_its_worker_fails_and_is_not_sent_again(jobs):
    ends = {}
    for interrupted in (True, False):
        job = jobs.add_live("page", REQUEST, most_queued=1)
        jobs.claim("w", attempts=3)
        jobs.release("w", interrupted=interrupted)
        ends[interrupted] = jobs.get(job.id)
    assert (ends[True].state, ends[True].error["code"]) == ("failed", "interrupted")
    assert (ends[False].state, ends[False].error) == ("cancelled", None)


def test_a_closed_live_page_leaves_no_job(jobs):
    running = jobs.add_live("page", REQUEST, most_queued=2)
    jobs.claim("w", attempts=3)
    waiting = jobs.add_live("page", REQUEST, most_queued=2)
    other = jobs.add_live("other", REQUEST, most_queued=2)
    jobs.end_live("page")
    assert jobs.should_stop(running.id, "w")
    with pytest.raises(KeyError):
        jobs.get(waiting.id)
    assert jobs.get(other.id).state == "queued"


def test_jobs_after_one_are_left_out(jobs):
    a, b, c = (add(jobs, name) for name in "abc")
    jobs.claim("w", attempts=3)
    assert [job.id for job in jobs.waiting(until=b.id)] == [a.id, b.id]
    assert [job.id for job in jobs.waiting(until=a.id)] == [a.id]
    assert [job.id for job in jobs.waiting()] == [a.id, b.id, c.id]
    assert jobs.num_waiting() == 2


def test_a_long_history_is_read_by_an_index(studio, jobs):
    for state in ("done", "failed", "done"):
        add(jobs)
        job = jobs.claim("w", attempts=3)
        jobs.finish(job.id, "w", state)
    seen = []
    studio.database.connection.set_trace_callback(seen.append)
    assert [job.state for job in jobs.finished(None, (9e9, ""), 2)] == ["done", "failed"]
    assert [job.state for job in jobs.finished("failed", (9e9, ""), 9)] == ["failed"]
    studio.database.connection.set_trace_callback(None)
    for statement in (one for one in seen if "FROM jobs" in one):
        plan = [row["detail"] for row in studio.database.read(f"EXPLAIN QUERY PLAN {statement}")]
        assert not [line for line in plan if line.startswith("SCAN") and "jobs" in line], plan
