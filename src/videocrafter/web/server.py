"""Run the studio: one server, its workers, one folder."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import filelock
import uvicorn

from videocrafter.web.api.events import EventHub
from videocrafter.web.app import create_app
from videocrafter.web.data_folder import DataFolder
from videocrafter.web.maintenance import recover
from videocrafter.web.studio import Studio, StudioConfig
from videocrafter.web.worker.workers import Workers

_log = logging.getLogger(__name__)
_SHUTDOWN_S = 3


class StudioError(ValueError):
    """A studio that cannot start."""


def serve(config: StudioConfig, host: str, port: int, *, ready: Callable[[str], None]) -> None:
    """Serve until the process is interrupted.

    Args:
        config: of the studio.
        host: address to listen on.
        port: 0 for any free one.
        ready: receives the address of the first page when the server is about to accept connections.

    Raises StudioError if the folder is in use or the port is taken.
    """
    folder = DataFolder(config.data)
    folder.create()
    with _listen(host, port) as listener, _locked(folder):
        studio = Studio(config)
        interrupted = recover(studio)
        if interrupted:
            _log.warning("%d jobs were interrupted and run again", interrupted)
        workers = Workers(studio)
        hub = EventHub(studio)
        app = create_app(studio, workers, hub)
        settings = server_settings(app)
        ready(f"http://{_shown(host)}:{listener.getsockname()[1]}")
        try:
            _Server(settings, hub).run(sockets=[listener])
        finally:
            # A second Ctrl-C skips the end of the application. The workers must end before the folder is free.
            workers.stop()


def server_settings(app: Any) -> uvicorn.Config:
    """Return the configuration of the HTTP server."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Programs on this machine could name any address in X-Forwarded-For, and guess tokens without limit.
        proxy_headers=False,
        timeout_graceful_shutdown=_SHUTDOWN_S,
        lifespan="on",
    )


class _Server(uvicorn.Server):
    """Ends event streams before it waits for open connections: they would never end by themselves."""

    def __init__(self, config: uvicorn.Config, hub: EventHub) -> None:
        super().__init__(config)
        self.hub = hub

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.hub.end_streams()
        await super().shutdown(sockets)


@contextlib.contextmanager
def _locked(folder: DataFolder) -> Iterator[None]:
    lock = filelock.FileLock(folder.lock, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise StudioError(
            f"another studio uses the folder {folder.root}; stop it, or choose another folder with --data"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise StudioError(
            f"cannot listen on {host}, port {port} ({error.strerror}); choose another port with --port"
        ) from error
    return listener


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
