"""A model hub on this computer, for tests of downloading: the real client talks to it, the network is never asked."""

import functools
import hashlib
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
"""What a repository may answer instead of a file: the hub's error code and its status."""


@dataclass
class FakeHub:
    """What the hub has, and what it was asked.

    Attributes:
        files: contents by "owner/name/file".
        refusal: key of `REFUSALS`, for all requests.
        cut_after: bytes of a file after which the connection breaks.
        requests: "METHOD path" of each request, and the token that came with it.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    refusal: str | None = None
    cut_after: int | None = None
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@contextmanager
def running_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Start a hub and point the client at it, with an empty cache of its own."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    real = huggingface_hub.hf_hub_download
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # before the client tries again
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", functools.partial(real, endpoint=hub.url))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def do_GET(self) -> None:
            self._answer(with_content=True)

        def _answer(self, *, with_content: bool) -> None:
            hub.requests.append((f"{self.command} {self.path}", self.headers.get("Authorization")))
            owner, name, _, _, file = self.path.lstrip("/").split("/", 4)
            content = hub.files.get(f"{owner}/{name}/{file}")
            if hub.refusal is not None or content is None:
                refusal = hub.refusal or "EntryNotFound"
                self.send_response(REFUSALS[refusal])
                self.send_header("X-Error-Code", refusal)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_content:
                self.wfile.write(content[: hub.cut_after])

    return Handler
