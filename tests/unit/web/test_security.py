"""Foreign pages, foreign names and strangers are turned away, on every route."""

import pytest
from starlette.testclient import TestClient

from tests.unit.web.conftest import problem
from videocrafter.cli.studio import _token
from videocrafter.web.app import create_app
from videocrafter.web.limits import Limits
from videocrafter.web.security import COOKIE
from videocrafter.web.server import server_settings
from videocrafter.web.studio import Studio, StudioConfig

TOKEN = "correct horse battery staple"
JOB = {"prompt": "a cat"}


@pytest.fixture
def guarded(tmp_path):
    config = StudioConfig(data=tmp_path, token=TOKEN, limits=Limits(disk_free_bytes=0))
    with TestClient(create_app(Studio(config), None), base_url="http://studio.example:7860") as client:
        yield client


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:7860", "", "evil.example:localhost"])
def test_other_names_of_the_server_are_refused(client, host):
    for path in ("/", "/api/v1/health", "/static/studio.css"):
        assert "localhost" in problem(client.get(path, headers={"Host": host}), 421, "host-not-allowed")


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:1", "localhost", "[::1]:7860"])
def test_names_of_this_machine_are_accepted(client, host):
    assert client.get("/api/v1/queue", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_other_sites_can_neither_write_nor_embed(client, studio, headers):
    problem(client.post("/api/v1/jobs", json=JOB, headers=headers), 403, "foreign-origin")
    assert studio.jobs.waiting() == []
    if "Sec-Fetch-Site" in headers:
        problem(client.get("/api/v1/videos", headers=headers), 403, "foreign-origin")
        assert client.get("/", headers={**headers, "Sec-Fetch-Mode": "navigate"}).status_code == 200


def test_our_own_pages_can(client):
    headers = {"Origin": "http://127.0.0.1:7860", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/v1/jobs", json=JOB, headers=headers).status_code == 201


def routes(client):
    schema = client.get("/api/v1/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    paths = [(method.upper(), path) for path, methods in schema["paths"].items() for method in methods]
    return [*paths, ("GET", "/"), ("GET", "/gallery"), ("GET", "/api/v1/openapi.json"), ("GET", "/static/make.js")]


def test_no_route_answers_a_stranger(guarded):
    guarded.app.logins_per_minute = 10_000
    found = routes(guarded)
    assert len(found) > 30
    for method, path in found:
        address = path.format(job="0" * 32, video="0" * 32, upload="0" * 32, run="0" * 32, page="0" * 32, number=0)
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"{COOKIE}={TOKEN}"}):
            problem(guarded.request(method, address, headers=headers), 401, "token-required")


def test_signing_in_sets_a_cookie_that_is_not_the_token(guarded):
    page = {"Accept": "text/html"}
    assert guarded.get("/", headers=page, follow_redirects=False).headers["location"] == "/login"
    wrong = guarded.post("/login", data={"token": "guess"}, follow_redirects=False)
    assert wrong.headers["location"].startswith("/login?wrong")
    right = guarded.post("/login", data={"token": TOKEN}, follow_redirects=False)
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert TOKEN not in cookie
    assert guarded.get("/", headers=page).status_code == 200
    for _ in range(3):
        guarded.post("/login", data={"token": "guess"}, follow_redirects=False)
    problem(guarded.post("/login", data={"token": TOKEN}, follow_redirects=False), 429, "too-many-logins")


def test_every_answer_has_a_strict_policy(client):
    for path in ("/", "/api/v1/health", "/nothing", "/static/studio.css"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/api/v1/videos/..%2f..%2fstudio.sqlite3",
        "/api/v1/videos/....mp4",
        "/api/v1/uploads/%2e%2e%2fstudio.sqlite3",
        "/api/v1/jobs/..%2f..%2fstudio/preview",
        "/login/../studio.sqlite3",
    ],
)
def test_no_path_leads_out_of_the_routes(client, path):
    answer = client.get(path)
    assert answer.status_code in (404, 405, 422)
    assert b"SQLite" not in answer.content
    assert b"import" not in answer.content


def test_bodies_are_limited(client):
    problem(client.post("/api/v1/jobs", json={"prompt": "x" * 2**21}), 413, "file-too-large")
    problem(client.post("/api/v1/jobs", content=iter([b"{}"])), 411, "length-required")


def test_bearer_tokens_cannot_be_guessed_without_limit(guarded):
    for number in range(5):
        problem(guarded.get("/api/v1/queue", headers={"Authorization": f"Bearer {number}"}), 401, "token-required")
    # The right one is not recognised either, or a guesser would learn it.
    for token in ("6", TOKEN):
        answer = guarded.get("/api/v1/queue", headers={"Authorization": f"Bearer {token}"})
        problem(answer, 429, "too-many-logins")
    # Whoever signed in is not shut out.
    guarded.post("/login", data={"token": TOKEN})
    odd = {"Cookie": f'odd={{"a": 1}}; {COOKIE}={guarded.cookies[COOKIE]}'}
    assert guarded.get("/api/v1/queue", headers=odd).status_code == 200


def test_a_browser_that_must_wait_sees_the_page(guarded):
    for _ in range(6):
        answer = guarded.post("/login", data={"token": "x"}, headers={"Accept": "text/html"}, follow_redirects=False)
    assert answer.headers["location"] == "/login?wait=1"


def test_signing_out_forgets_the_cookie_and_our_own_forms_send_their_origin(guarded):
    guarded.post("/login", data={"token": TOKEN})
    page = guarded.get("/")
    assert 'action="/logout"' in page.text
    # With "no-referrer" browsers send "Origin: null", which the gate refuses.
    assert page.headers["referrer-policy"] == "same-origin"
    assert guarded.post("/logout", follow_redirects=False).headers["location"] == "/login"
    problem(guarded.get("/api/v1/queue"), 401, "token-required")


def served(tmp_path):
    """A client of the application as the server runs it, with uvicorn's own middleware."""
    config = StudioConfig(data=tmp_path, token=TOKEN, limits=Limits(disk_free_bytes=0))
    settings = server_settings(create_app(Studio(config), None))
    settings.load()
    return TestClient(settings.loaded_app, base_url="http://studio.example", client=("127.0.0.1", 50_000))


def test_no_header_gives_a_guesser_another_address(tmp_path):
    client = served(tmp_path)

    def headers(number):
        return {"X-Forwarded-For": f"10.0.0.{number}", "Forwarded": f"for=10.0.0.{number}"}

    for number in range(5):
        guess = {"Authorization": f"Bearer {number}", **headers(number)}
        problem(client.get("/api/v1/queue", headers=guess), 401, "token-required")
        client.post("/login", data={"token": "x"}, headers=headers(number), follow_redirects=False)
    right = {"Authorization": f"Bearer {TOKEN}", **headers(9)}
    problem(client.get("/api/v1/queue", headers=right), 429, "too-many-logins")
    answer = client.post("/login", data={"token": TOKEN}, headers=headers(9), follow_redirects=False)
    problem(answer, 429, "too-many-logins")


@pytest.mark.parametrize(("scheme", "secure"), [("https", True), ("https, http", True), ("http", False), ("", False)])
def test_the_cookie_is_secure_behind_a_proxy_with_tls(tmp_path, scheme, secure):
    headers = {"X-Forwarded-Proto": scheme} if scheme else {}
    answer = served(tmp_path).post("/login", data={"token": TOKEN}, headers=headers, follow_redirects=False)
    assert ("Secure" in answer.headers["set-cookie"]) == secure


def test_an_allowed_name_may_be_written_in_any_case(tmp_path):
    config = StudioConfig(data=tmp_path, hosts=("MyBox.local",), limits=Limits(disk_free_bytes=0))
    client = TestClient(create_app(Studio(config), None), base_url="http://mybox.local:7860")
    assert client.get("/api/v1/queue").status_code == 200
    assert client.get("/api/v1/queue", headers={"Host": "MYBOX.local"}).status_code == 200
    problem(client.get("/api/v1/queue", headers={"Host": "other.local"}), 421, "host-not-allowed")


def test_the_token_is_the_first_line_of_its_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN} \r\nwritten on Monday\n")
    assert _token("0.0.0.0", file) == TOKEN
    file.write_text("short\nand a long second line\n")
    with pytest.raises(ValueError, match="shorter than 16"):
        _token(None, file)
