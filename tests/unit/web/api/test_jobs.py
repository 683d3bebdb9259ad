import threading

import pytest

from tests.unit.web.conftest import problem
from videocrafter.web.store.database import Database
from videocrafter.web.studio import Studio, StudioConfig


def test_a_job_is_queued_and_found_again(client):
    answer = client.post("/api/v1/jobs", json={"prompt": "a cat", "seed": 7})
    assert answer.status_code == 201
    job = answer.json()
    assert job["state"] == "queued"
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}"
    found = client.get(f"/api/v1/jobs/{job['id']}").json()
    assert (found["position"], found["videos"], found["request"]["seed"]) == (0, [], 7)
    assert client.get("/api/v1/queue").json()["waiting"] == 1


def test_a_job_without_a_seed_gets_one_that_a_repeated_request_shares(client):
    seeds = {client.post("/api/v1/jobs", json={"prompt": "a"}).json()["request"]["seed"] for _ in range(3)}
    assert len(seeds) == 3
    first = client.post("/api/v1/jobs", json={"prompt": "a"}, headers={"Idempotency-Key": "k"})
    again = client.post("/api/v1/jobs", json={"prompt": "a"}, headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    other = client.post("/api/v1/jobs", json={"prompt": "b"}, headers={"Idempotency-Key": "k"})
    problem(other, 422, "idempotency-key-reused")


@pytest.mark.parametrize(
    ("request_body", "code", "text"),
    [
        ({}, "invalid-request", "prompt"),
        ({"prompt": "a", "sped": 1}, "invalid-request", "sped"),
        ({"prompt": "a", "seed": -1}, "invalid-request", "seed"),
        ({"prompt": "a" * 2001}, "invalid-settings", "at most 2000 characters"),
        ({"prompt": "a", "num_videos": 17}, "invalid-settings", "at most 16"),
        ({"prompt": "a", "model": "/etc"}, "invalid-settings", "not offered"),
        ({"prompt": "a", "model": "t2v-512"}, "invalid-settings", "not offered"),
        ({"prompt": "a", "loras": [{"name": "../x"}]}, "invalid-settings", "not offered"),
        ({"prompt": "a", "image": "0" * 32}, "invalid-settings", "upload it"),
        ({"prompt": "a", "image": "/etc/passwd"}, "invalid-request", "image"),
        ({"prompt": "a", "strength": 0.5}, "invalid-settings", "no effect without `video`"),
        ({"prompt": "a", "guidance_interval": [0.9, 0.1]}, "invalid-settings", "guidance_interval"),
        ({"prompt": "a", "seed": 2**53}, "invalid-settings", "at most 9007199254740991"),
        ({"prompt": "a", "seed": 2**53 - 1, "num_videos": 2}, "invalid-settings", "at most 9007199254740991"),
    ],
)
def test_wrong_requests_are_named(client, studio, request_body, code, text):
    assert text in problem(client.post("/api/v1/jobs", json=request_body), 422, code)
    assert studio.jobs.waiting() == []


def test_cancel_remove_retry_move_edit(client):
    jobs = [client.post("/api/v1/jobs", json={"prompt": name}).json()["id"] for name in "abc"]
    client.post(f"/api/v1/jobs/{jobs[2]}/move", json={"before": jobs[0]})
    listed = client.get("/api/v1/jobs").json()["jobs"]
    assert [job["request"]["prompt"] for job in listed] == ["c", "a", "b"]
    assert [job["position"] for job in listed] == [0, 1, 2]
    assert client.put(f"/api/v1/jobs/{jobs[0]}", json={"prompt": "d"}).json()["request"]["prompt"] == "d"
    assert client.delete(f"/api/v1/jobs/{jobs[0]}").json()["state"] == "cancelled"
    assert client.post(f"/api/v1/jobs/{jobs[0]}/retry").json()["state"] == "queued"
    problem(client.post(f"/api/v1/jobs/{jobs[0]}/retry"), 409, "job-not-retryable")
    client.delete(f"/api/v1/jobs/{jobs[0]}")
    assert [job["id"] for job in client.get("/api/v1/jobs?state=finished").json()["jobs"]] == [jobs[0]]
    client.delete(f"/api/v1/jobs/{jobs[0]}")
    problem(client.get(f"/api/v1/jobs/{jobs[0]}"), 404, "not-found")


def test_finished_jobs_come_in_pages(client):
    for index in range(5):
        job = client.post("/api/v1/jobs", json={"prompt": str(index)}).json()["id"]
        client.delete(f"/api/v1/jobs/{job}")
    seen, address = [], "/api/v1/jobs?state=cancelled&limit=2"
    after = ""
    while True:
        page = client.get(f"{address}{after}").json()
        seen += [job["request"]["prompt"] for job in page["jobs"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == list("43210")
    problem(client.get(f"{address}&after=x"), 422, "invalid-cursor")


def test_a_pause_is_kept(client, studio):
    assert client.post("/api/v1/queue/pause").json()["reason"] == "user"
    client.post("/api/v1/jobs", json={"prompt": "a"})
    assert studio.jobs.claim("w", attempts=3) is None
    assert not client.post("/api/v1/queue/resume").json()["paused"]
    assert studio.jobs.claim("w", attempts=3) is not None


def test_a_full_queue_says_so(client, studio):
    for _ in range(studio.limits.queued_jobs):
        studio.jobs.add({"prompt": "a"}, most_queued=10**6)
    answer = client.post("/api/v1/jobs", json={"prompt": "a"})
    assert "200 jobs are waiting" in problem(answer, 429, "queue-full")
    assert answer.headers["retry-after"]


def test_a_locked_database_asks_to_try_again(client, studio, monkeypatch):
    monkeypatch.setattr("videocrafter.web.store.database._WAIT_S", 0.01)
    other = Database(studio.folder.database)
    held, release = threading.Event(), threading.Event()

    def hold():
        with other.writing():
            held.set()
            release.wait()
        other.close()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        answer = client.post("/api/v1/jobs", json={"prompt": "a"})
        problem(answer, 503, "database-busy")
        assert answer.headers["retry-after"]
    finally:
        release.set()
        thread.join()


def test_the_time_left_follows_from_earlier_videos(client, studio, add_video):
    from videocrafter.web.job_request import JobRequest, workload_of

    add_video(workload=workload_of(JobRequest(prompt="x")), seconds=4.0)
    for _ in range(2):
        client.post("/api/v1/jobs", json={"prompt": "a", "num_videos": 2})
    assert [job["seconds_left"] for job in client.get("/api/v1/jobs").json()["jobs"]] == [8.0, 16.0]
    assert client.post("/api/v1/estimate", json={"prompt": "a", "num_videos": 2}).json()["seconds"] == 8.0
    client.post("/api/v1/jobs", json={"prompt": "a", "num_frames": 99})
    assert client.get("/api/v1/jobs").json()["jobs"][2]["seconds_left"] is None


def test_several_workers_finish_sooner(studio, add_video):
    from videocrafter.web.api.views import queue_view
    from videocrafter.web.job_request import JobRequest, workload_of

    two = Studio(StudioConfig(data=studio.folder.root, devices=("cpu", "cpu")))
    add_video(workload=workload_of(JobRequest(prompt="x")), seconds=4.0)
    for videos in (3, 1, 1, 1):
        studio.jobs.add({"prompt": "a", "num_videos": videos}, most_queued=9)
    assert [job["seconds_left"] for job in queue_view(two, studio.jobs.waiting(), 0.0)] == [12.0, 4.0, 8.0, 12.0]


def test_live_pages_replace_their_job(client, studio):
    page = "f" * 32
    for prompt in ("a", "a c", "a cat"):
        client.put(f"/api/v1/live/{page}", json={"prompt": prompt})
    assert client.get("/api/v1/jobs").json()["jobs"] == []
    assert studio.jobs.claim("w", attempts=3).request["prompt"] == "a cat"


@pytest.mark.parametrize(
    "body",
    [r'{"prompt": "a \ud800"}', r'{"prompt": "a", "negative_prompt": "\udfff"}', r'{"prompt": "a", "\ud800": 1}'],
)
def test_text_that_no_answer_can_contain_is_refused(client, body):
    headers = {"Content-Type": "application/json"}
    for method, path in (("POST", "jobs"), ("POST", "estimate"), ("PUT", f"live/{'f' * 32}")):
        problem(client.request(method, f"/api/v1/{path}", content=body, headers=headers), 422, "invalid-request")
    assert client.get("/api/v1/jobs").json()["jobs"] == []


def test_stored_text_that_no_answer_can_contain_is_shown_all_the_same(client, studio, add_video):
    video = add_video(recording={"prompt": "b \ud800"}, request={"prompt": "b \ud800"})
    studio.jobs.add({"prompt": "a \ud800", "seed": 1}, most_queued=9)
    assert client.get("/api/v1/jobs").json()["jobs"][0]["request"]["prompt"] == "a ?"
    assert client.get(f"/api/v1/videos/{video}/recording").json()["prompt"] == "b ?"


def test_a_live_page_that_was_closed_takes_no_job(client, studio):
    page, job = "f" * 32, {"prompt": "a cat"}
    client.put(f"/api/v1/live/{page}", json=job)
    answer = client.delete(f"/api/v1/live/{page}")
    assert (answer.status_code, answer.content) == (204, b"")
    problem(client.put(f"/api/v1/live/{page}", json=job), 409, "live-ended")
    assert studio.jobs.claim("w", attempts=3) is None
    assert client.put(f"/api/v1/live/{'e' * 32}", json=job).status_code == 200


def test_running_again_obeys_the_limit_of_the_queue(client, studio):
    job = client.post("/api/v1/jobs", json={"prompt": "a"}).json()["id"]
    client.delete(f"/api/v1/jobs/{job}")
    object.__setattr__(studio.limits, "queued_jobs", 0)
    problem(client.post(f"/api/v1/jobs/{job}/retry"), 429, "queue-full")


def test_one_job_is_read_without_those_after_it(client, studio, monkeypatch):
    jobs = [client.post("/api/v1/jobs", json={"prompt": name}).json()["id"] for name in "abc"]
    read, original = [], studio.jobs._rows

    def rows(*given):
        found = original(*given)
        read.append(len(found))
        return found

    monkeypatch.setattr(studio.jobs, "_rows", rows)
    assert client.get(f"/api/v1/jobs/{jobs[1]}").json()["position"] == 1
    assert read == [1, 2]
    assert client.get("/api/v1/queue").json()["waiting"] == 3
    assert read == [1, 2]


def test_a_full_disk_names_the_bin(client, studio):
    studio.jobs.set_flag("paused", "disk-low")
    assert "Emptying the bin" in client.get("/api/v1/queue").json()["message"]
