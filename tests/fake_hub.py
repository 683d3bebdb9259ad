"""A local fake of the model hub, for downloads and uploads with the real client and without network access."""

import base64
import functools
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REFUSALS = {"GatedRepo": 403, "RepoNotFound": 401, "EntryNotFound": 404, "Unauthorized": 401, "Overloaded": 503}
REFUSALS |= {"Forbidden": 403, "TooMany": 429}
"""Error responses: the hub's error code and its HTTP status."""


@dataclass
class FakeHub:
    """The state of the hub and a log of requests.

    Attributes:
        files: contents by "owner/name/file".
        repositories: whether each repository is private, by "owner/name"; used only by uploads.
        refusal: key of `REFUSALS` for all requests.
        refuses_writing: key of `REFUSALS` for requests that change something.
        card_error: validation error for every model card.
        cut_after: number of bytes of a file after which the connection breaks.
        requests: "METHOD path" of each request, and its token.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    repositories: dict[str, bool] = field(default_factory=dict)
    refusal: str | None = None
    refuses_writing: str | None = None
    card_error: str | None = None
    cut_after: int | None = None
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def names(self, repository: str) -> set[str]:
        """Return the names of a repository's files."""
        return {name.split("/", 2)[2] for name in self.files if name.startswith(f"{repository}/")}


@contextmanager
def running_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Start a hub and point the client to it, with an empty cache."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    real = huggingface_hub.hf_hub_download
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # the client waits between retries
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", functools.partial(real, endpoint=hub.url))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def uploading_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Start a hub for uploads by a logged-in user."""
    with running_hub(cache, monkeypatch) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield hub


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Print nothing."""

        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def do_GET(self) -> None:
            if self.path.startswith("/api/models/"):
                self._describe("/".join(self.path.split("/")[3:5]), as_tree="/tree/" in self.path)
            elif self.path.startswith("/api/"):
                self._refuse("EntryNotFound")
            else:
                self._answer(with_content=True)

        def do_POST(self) -> None:
            hub.requests.append((f"POST {self.path}", self.headers.get("Authorization")))
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            place = self.path.strip("/").split("/")
            refusal = hub.refusal or (hub.refuses_writing if place[1] != "validate-yaml" else None)
            if refusal is not None:
                self._refuse(refusal)
            elif place[1] == "validate-yaml":
                errors = [{"message": hub.card_error}] if hub.card_error else []
                self._say({"errors": errors, "warnings": []}, 400 if errors else 200)
            elif place[1] == "repos":
                self._create(json.loads(content))
            elif place[4] == "preupload":
                names = [file["path"] for file in json.loads(content)["files"]]
                files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
                self._say({"files": files})
            else:
                self._commit("/".join(place[2:4]), [json.loads(line) for line in content.splitlines()])

        def _describe(self, repository: str, *, as_tree: bool) -> None:
            hub.requests.append((f"GET {self.path}", self.headers.get("Authorization")))
            if hub.refusal is not None or repository not in hub.repositories:
                self._refuse(hub.refusal or "RepoNotFound")
                return
            names = [".gitattributes", *hub.names(repository)]
            if as_tree:
                self._say([{"type": "file", "path": name, "size": 1, "oid": COMMIT} for name in names])
                return
            siblings = [{"rfilename": name} for name in names]
            private = hub.repositories[repository]
            self._say({"id": repository, "sha": COMMIT, "private": private, "siblings": siblings})

        def _create(self, wanted: dict[str, str]) -> None:
            repository = f"{wanted['organization']}/{wanted['name']}"
            is_new = repository not in hub.repositories
            if is_new:
                hub.repositories[repository] = wanted.get("visibility") == "private"
            self._say({"url": f"{hub.url}/{repository}"}, 200 if is_new else 409)

        def _commit(self, repository: str, lines: list[dict[str, dict[str, str]]]) -> None:
            for line in lines:
                name = f"{repository}/{line['value'].get('path')}"
                if line["key"] == "file":
                    hub.files[name] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del hub.files[name]
            self._say({"commitUrl": f"{hub.url}/{repository}/commit/{COMMIT}", "commitOid": COMMIT})

        def _say(self, answer: object, status: int = 200) -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _refuse(self, refusal: str) -> None:
            self.send_response(REFUSALS[refusal])
            self.send_header("X-Error-Code", refusal)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _answer(self, *, with_content: bool) -> None:
            hub.requests.append((f"{self.command} {self.path}", self.headers.get("Authorization")))
            owner, name, _, _, file = self.path.lstrip("/").split("/", 4)
            content = hub.files.get(f"{owner}/{name}/{file}")
            if hub.refusal is not None or content is None:
                self._refuse(hub.refusal or "EntryNotFound")
                return
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_content:
                self.wfile.write(content[: hub.cut_after])

    return Handler
