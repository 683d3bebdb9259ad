"""A study over HTTP, without a socket: who sees what, what is stored, and what every wrong request gets."""

import sqlite3
import time
from contextlib import closing

import pytest
from fastapi.testclient import TestClient

from tests.tiny_studies import SYSTEMS, make_tiny_study
from videocrafter.evaluation.study.design import read_design
from videocrafter.evaluation.study.group_commit import GroupCommit
from videocrafter.evaluation.study.server import study_app
from videocrafter.evaluation.study.store import DATABASE_FILE, AnswerStore, StudyError, open_database

LEFT = {"visual_quality": "left", "motion_quality": "left"}
RIGHT = {"visual_quality": "right", "motion_quality": "equal"}


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    make_tiny_study(folder, votes_per_item=100)
    return folder / "study"


@pytest.fixture
def client(studies):
    with TestClient(study_app(studies)) as client:
        yield client


@pytest.fixture
def rater(client):
    reply = client.post("/api/raters", json={"consent": True})
    assert reply.status_code == 201
    return {"Authorization": f"Bearer {reply.json()['token']}"}


def body(answer, revision=0, request="r1", **changes):
    return {"answer": answer, "revision": revision, "request": request, "seconds": 3.5, "plays": 1} | changes


def test_nothing_that_reaches_a_rater_names_a_system_or_a_check(client, rater):
    texts = [client.get(path).text for path in ("/", "/study.js", "/study.css", "/api/study")]
    total = client.get("/api/session", headers=rater).json()["total"]
    seen = []
    for position in range(total):
        reply = client.get(f"/api/tasks/{position}", headers=rater)
        texts.append(reply.text)
        seen.append(set(reply.json()))
        for address in reply.json()["clips"]:
            assert client.get(f"/{address}").headers["content-type"] == "video/mp4"
        texts.append(client.put(f"/api/tasks/{position}", json=body(LEFT), headers=rater).text)
    assert not any(name in text for name in SYSTEMS for text in texts)
    assert all(keys == {"training", "prompt", "image", "clips", "answer", "revision"} for keys in seen)
    assert not any('"same"' in text or "broken" in text or '"check"' in text for text in texts[4:])
    session = client.get("/api/session", headers=rater).json()
    assert session["finished"]
    assert len(session["code"]) == 8


def test_an_answer_counts_once_however_often_it_is_sent(client, rater, studies):
    first = client.put("/api/tasks/0", json=body(LEFT), headers=rater)
    again = client.put("/api/tasks/0", json=body(LEFT), headers=rater)
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert first.json()["explanation"]  # the first question is practice
    with closing(sqlite3.connect(studies / DATABASE_FILE)) as database:
        number = database.execute("SELECT MAX(id) FROM raters").fetchone()[0]
        stored = database.execute(
            "SELECT position, revision, answer FROM answers WHERE rater = ?", (number,)
        ).fetchall()
    assert [(position, revision) for position, revision, _ in stored] == [(0, 1)]


def test_two_windows_never_overwrite_each_other(client, rater):
    client.put("/api/tasks/0", json=body(LEFT), headers=rater)
    stale = client.put("/api/tasks/0", json=body(RIGHT, request="r2"), headers=rater)
    assert (stale.status_code, stale.json()["code"]) == (409, "conflict")
    assert client.get("/api/tasks/0", headers=rater).json()["answer"] == LEFT
    # Going back in the window that knows the answer changes it.
    changed = client.put("/api/tasks/0", json=body(RIGHT, revision=1, request="r3"), headers=rater)
    assert changed.json()["revision"] == 2
    assert client.get("/api/tasks/0", headers=rater).json()["answer"] == RIGHT


def test_a_rater_resumes_and_withdraws(client, rater, studies):
    client.put("/api/tasks/0", json=body(LEFT), headers=rater)
    with TestClient(study_app(studies)) as restarted:
        assert restarted.get("/api/session", headers=rater).json()["next"] == 1
    assert client.delete("/api/session", headers=rater).status_code == 204
    gone = client.get("/api/session", headers=rater)
    assert (gone.status_code, gone.json()["code"]) == (410, "withdrawn")
    with closing(sqlite3.connect(studies / DATABASE_FILE)) as database:
        states = database.execute("SELECT id FROM raters WHERE state = 'withdrawn'").fetchall()
        for (number,) in states:
            assert database.execute("SELECT COUNT(*) FROM tasks WHERE rater = ?", (number,)).fetchone() == (0,)
            assert database.execute("SELECT COUNT(*) FROM answers WHERE rater = ?", (number,)).fetchone() == (0,)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"answer": {"visual_quality": "left"}}, 422),
        ({"answer": LEFT | {"beauty": "left"}}, 422),
        ({"answer": LEFT | {"motion_quality": 1}}, 422),
        ({"answer": LEFT | {"motion_quality": "A"}}, 422),
        ({"request": ""}, 422),
        ({"seconds": -1.0}, 422),
        ({"plays": "many"}, 422),
        ({"extra": 1}, 422),
        ({"request": "x" * 20_000}, 413),
    ],
)
def test_wrong_answers_are_refused_and_not_stored(client, rater, change, status):
    assert client.put("/api/tasks/0", json=body(LEFT) | change, headers=rater).status_code == status
    assert client.get("/api/session", headers=rater).json()["next"] == 0


def test_wrong_requests_are_refused(client, rater, studies):
    assert client.put("/api/tasks/3", json=body(LEFT), headers=rater).json()["code"] == "order"
    assert client.get("/api/tasks/99", headers=rater).status_code == 404
    assert client.get("/api/tasks/99999999999999999999", headers=rater).status_code == 422
    assert client.post("/api/raters", json={"consent": False}).status_code == 422
    assert (
        client.post("/api/raters", json={"consent": True}, headers={"Sec-Fetch-Site": "cross-site"}).status_code
        == 403
    )
    for path in (
        "/media/design.json",
        "/media/..%2Fdesign.json",
        "/media/%2e%2e/answers.sqlite3",
        "/docs",
        "/openapi.json",
    ):
        assert client.get(path).status_code == 404
    routes = [("GET", "/api/session"), ("DELETE", "/api/session"), ("GET", "/api/tasks/0"), ("PUT", "/api/tasks/0")]
    for method, path in routes:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
            reply = client.request(method, path, headers=headers, **({"json": body(LEFT)} if method == "PUT" else {}))
            assert reply.status_code == 401


def test_pages_and_media_carry_strict_headers_and_ranges_work(client, rater):
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    address = client.get("/api/tasks/0", headers=rater).json()["clips"][0]
    part = client.get(f"/{address}", headers={"Range": "bytes=0-9"})
    assert (part.status_code, len(part.content)) == (206, 10)
    assert part.headers["content-range"].startswith("bytes 0-9/")
    assert "immutable" in part.headers["cache-control"]


@pytest.fixture
def clip(client, rater):
    address = "/" + client.get("/api/tasks/0", headers=rater).json()["clips"][0]
    return address, client.get(address).content


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-1", slice(0, 2)),
        ("bytes=5-", slice(5, None)),
        ("bytes=5-99999999", slice(5, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=-99999999", slice(None)),
    ],
)
def test_one_range_gives_a_part(client, clip, wanted, part):
    address, whole = clip
    reply = client.get(address, headers={"Range": wanted})
    assert (reply.status_code, reply.content) == (206, whole[part])
    first = range(len(whole))[part][0]
    assert reply.headers["content-range"] == f"bytes {first}-{first + len(reply.content) - 1}/{len(whole)}"
    assert reply.headers["content-type"] == "video/mp4"


def test_ranges_outside_the_file_and_of_another_form(client, clip):
    address, whole = clip
    for wanted in (f"bytes={len(whole)}-", "bytes=99999999-", "bytes=-0"):
        reply = client.get(address, headers={"Range": wanted})
        assert (reply.status_code, reply.content) == (416, b"")
        assert reply.headers["content-range"] == f"bytes */{len(whole)}"
    for wanted in ("bytes=-", "bytes=5-2", "bytes=0-1,4-5", "frames=0-1", f"bytes={'9' * 5000}-"):
        reply = client.get(address, headers={"Range": wanted})
        assert (reply.status_code, reply.content) == (200, whole)
    tag = client.get(address).headers["etag"]
    for condition, status in ((tag, 206), ('"another"', 200)):
        assert client.get(address, headers={"Range": "bytes=0-1", "If-Range": condition}).status_code == status


def test_files_too_large_for_memory_are_sent_from_disk(client, clip, monkeypatch):
    address, whole = clip
    monkeypatch.setattr("videocrafter.evaluation.study.media._LARGEST_KEPT", 10)
    tag = client.get(address).headers["etag"]
    assert client.get(address).content == whole
    part = client.get(address, headers={"Range": "bytes=5-", "If-Range": tag})
    assert (part.status_code, part.content) == (206, whole[5:])


def test_reading_waits_for_no_thread(client, rater, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("work was passed to a thread")

    address = client.get("/api/tasks/0", headers=rater).json()["clips"][0]
    monkeypatch.setattr(GroupCommit, "run", refuse)
    monkeypatch.setattr("anyio.to_thread.run_sync", refuse)
    monkeypatch.setattr("asyncio.to_thread", refuse)
    assert client.get("/api/session", headers=rater).json()["next"] == 0
    assert client.get("/api/tasks/0", headers=rater).status_code == 200
    assert client.get(f"/{address}").status_code == 200
    assert client.get("/api/session", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_reading_waits_in_the_thread_while_the_answers_are_locked(client, rater):
    study = client.app.state.study

    class Locked:
        def execute(self, _):
            raise sqlite3.OperationalError("database is locked")

    study._reading, reading = Locked(), study._reading
    try:
        assert client.get("/api/session", headers=rater).json()["next"] == 0
    finally:
        study._reading = reading


def test_reading_never_changes_answers(client):
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        client.app.state.study._reading.execute("DELETE FROM raters")


def test_withdrawn_answers_are_in_no_file(tmp_path):
    make_tiny_study(tmp_path, votes_per_item=100)
    with TestClient(study_app(tmp_path / "study")) as client:
        raters = []
        for number in range(12):
            token = client.post("/api/raters", json={"consent": True}).json()["token"]
            raters.append({"Authorization": f"Bearer {token}"})
            for position in range(4):
                sent = body(LEFT, request=f"secret-{number:02}-{position}")
                assert client.put(f"/api/tasks/{position}", json=sent, headers=raters[-1]).status_code == 200

        def found(number):
            files = tmp_path.glob(f"study/{DATABASE_FILE}*")
            return [path.name for path in files if f"secret-{number:02}".encode() in path.read_bytes()]

        assert found(3)
        for number in (3, 7, 11):
            assert client.delete("/api/session", headers=raters[number]).status_code == 204
            assert found(number) == []
        assert found(4)


def test_a_log_that_somebody_reads_is_emptied_later(tmp_path):
    make_tiny_study(tmp_path)
    with TestClient(study_app(tmp_path / "study")) as client:
        rater = {"Authorization": f"Bearer {client.post('/api/raters', json={'consent': True}).json()['token']}"}
        client.put("/api/tasks/0", json=body(LEFT, request="secret"), headers=rater)
        log = tmp_path / "study" / f"{DATABASE_FILE}-wal"
        with closing(sqlite3.connect(tmp_path / "study" / DATABASE_FILE)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM answers").fetchall()
            assert client.delete("/api/session", headers=rater).status_code == 204
            assert b"secret" in log.read_bytes()
        client.post("/api/raters", json={"consent": True})
        assert log.read_bytes() == b""


def test_a_full_study_and_one_by_invitation_admit_nobody_else(tmp_path):
    made = make_tiny_study(tmp_path, prompts=1, invitations=1, checks_per_rater=0, training_per_rater=0)
    with TestClient(study_app(tmp_path / "study")) as client:
        assert client.post("/api/raters", json={"consent": True}).json()["code"] == "invited_only"
        invited = {"Authorization": f"Bearer {made.tokens[0]}"}
        assert client.get("/api/session", headers=invited).json()["total"] == 1
        client.delete("/api/session", headers=invited)
        assert client.get("/api/session", headers=invited).status_code == 410
    other = tmp_path / "other"
    make_tiny_study(other, prompts=1, votes_per_item=1, checks_per_rater=0, training_per_rater=0)
    with TestClient(study_app(other / "study")) as client:
        codes = [client.post("/api/raters", json={"consent": True}).status_code for _ in range(3)]
    assert codes == [201, 201, 409]


def test_answers_of_another_design_are_refused(tmp_path):
    made = make_tiny_study(tmp_path, prompts=1)
    study_app(tmp_path / "study").state.study.close()
    text = made.design.to_json().replace("Video study", "Another title")
    (tmp_path / "study" / "design.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="answers to another design"):
        study_app(tmp_path / "study")
    (tmp_path / "study" / DATABASE_FILE).write_bytes(b"not a database" * 100)
    with pytest.raises(ValueError, match="cannot be used as a study's answers"):
        study_app(tmp_path / "study")


def test_questions_are_counted_once_a_minute_and_after_undone_work(tmp_path, monkeypatch):
    make_tiny_study(tmp_path, votes_per_item=100, invitations=40)
    design = read_design(tmp_path / "study")
    tokens = (tmp_path / "study" / "invitations.txt").read_text().replace("#", "").split()
    passes = []
    shown = AnswerStore._shown
    monkeypatch.setattr(AnswerStore, "_shown", lambda *a: passes.append(a[1]) or shown(*a))
    with closing(open_database(tmp_path / "study" / DATABASE_FILE, design)) as connection:
        store = AnswerStore(design, connection)

        def as_counted():
            counts = store._counts(time.time())
            return counts.shown, counts.seats

        def exact():
            return shown(store, time.time()), store._seats(time.time())

        raters = [store.rater(token) for token in tokens[:20]]
        assert len(passes) == 1
        assert as_counted() == exact()
        connection.execute("BEGIN")
        store.rater(tokens[20])
        connection.execute("ROLLBACK")
        assert as_counted() == exact()
        assert len(passes) == 2
        store.withdraw(raters[0])
        assert as_counted() == exact()
        later = time.time() + 61
        monkeypatch.setattr("videocrafter.evaluation.study.store.time.time", lambda: later)
        store.rater(tokens[21])
        assert len(passes) == 4


def test_a_rater_who_left_without_an_answer_frees_the_seat(tmp_path, monkeypatch):
    make_tiny_study(tmp_path, votes_per_item=1)
    design = read_design(tmp_path / "study")
    with closing(open_database(tmp_path / "study" / DATABASE_FILE, design)) as connection:
        store = AnswerStore(design, connection)
        raters = [store.rater(store.join()) for _ in range(design.max_raters)]
        store.answer(raters[0], 0, LEFT, revision=0, request="r", seconds=3, plays=1)
        with pytest.raises(StudyError, match="all the answers it needs"):
            store.join()
        later = time.time() + 25 * 3600
        monkeypatch.setattr("videocrafter.evaluation.study.store.time.time", lambda: later)
        for _ in raters[1:]:  # the rater who answered keeps the seat
            store.join()
        with pytest.raises(StudyError, match="all the answers it needs"):
            store.join()


def test_answers_that_another_process_holds_are_not_called_broken(tmp_path, monkeypatch):
    make_tiny_study(tmp_path)
    design, path = read_design(tmp_path / "study"), tmp_path / "study" / DATABASE_FILE
    open_database(path, design).close()
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *arguments, **options: connect(*arguments, **options | {"timeout": 0})
    )
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ValueError, match="is held by another process"):
            open_database(path, design)
