"""The worker process: claim a job, make its videos, and so on until the server is gone."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import threading
import time
import uuid
from multiprocessing.connection import Connection
from typing import Any

from videocrafter.web.store.database import patiently
from videocrafter.web.studio import Studio, StudioConfig
from videocrafter.web.worker.estimate import estimate
from videocrafter.web.worker.video_job import LoadedModel, finish, run_job

_log = logging.getLogger(__name__)
_POLL_S = 0.2
_LOOK_AGAIN_S = 5.0
_HEARTBEAT_S = 1.0
_LOST_SERVER_STATUS = 3


def work(config: StudioConfig, owner: str, connection: Connection, threads: int | None = None) -> None:
    """Entry point of the process; returns never.

    Args:
        config: of the studio, with the device of this worker.
        owner: unique name of this worker in the database.
        connection: to the server. The worker sends "alive" and answers of estimates, and ends when it closes.
        threads: of the processor to use; None leaves it to the library.
    """
    logging.basicConfig(level=logging.INFO, format="worker: %(message)s")
    send_lock = threading.Lock()

    def send(message: tuple[Any, ...]) -> None:
        with send_lock:
            connection.send(message)

    threading.Thread(target=_beat, args=(send,), daemon=True).start()
    # Ctrl-C reaches all processes of a terminal; the server ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_heavy_libraries(threads)
    # Not before: lazy modules do not bear being imported by two threads at once.
    studio, model = Studio(config), LoadedModel()
    threading.Thread(target=_answer, args=(config, connection, send, model), daemon=True).start()
    seen, looked_s = -1, 0.0
    while True:
        version = patiently(studio.database.version)
        # Free space changes without a change of the database.
        if version == seen and time.monotonic() - looked_s < _LOOK_AGAIN_S:
            time.sleep(_POLL_S)
        elif not run_next(studio, owner, model):
            seen, looked_s = version, time.monotonic()


def import_heavy_libraries(threads: int | None = None) -> None:
    """Import them before the first job, which then starts sooner."""
    # They read these when they are imported. Progress is shown by the page.
    os.environ |= {"TQDM_DISABLE": "1", "DIFFUSERS_VERBOSITY": "error", "TRANSFORMERS_VERBOSITY": "error"}
    from videocrafter.pipelines import loading  # noqa: F401 (brings the rest)

    if threads is not None:
        from videocrafter.generation.hardware import limit_threads

        limit_threads(threads)


def run_next(studio: Studio, owner: str, model: LoadedModel) -> bool:
    """Run one job; return False if there is none. A bug in a job fails the job, not the worker."""
    if not patiently(lambda: _has_space(studio)):
        return False
    job = patiently(lambda: studio.jobs.claim(owner, attempts=studio.limits.attempts))
    if job is None:
        return False
    try:
        run_job(studio, job, owner, model, studio.config.device)
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001 (whatever it is, the next job runs)
        number = uuid.uuid4().hex[:8]
        _log.exception("job %s failed (error %s)", job.id, number)
        model.drop()
        message = f"an unexpected error occurred ({type(error).__name__}); the server's log has it as error {number}"
        finish(studio, job, owner, "failed", {"code": "internal-error", "message": message})
    return True


def _has_space(studio: Studio) -> bool:
    """Return whether the disk has room; pauses and resumes the queue accordingly."""
    missing = studio.limits.disk_free_bytes - studio.folder.free_bytes()
    paused = studio.jobs.flag("paused")
    if missing > 0 and paused is None:
        studio.jobs.set_flag("paused", "disk-low")
    elif missing <= 0 and paused == "disk-low":
        studio.jobs.set_flag("paused", None)
    return missing <= 0


def _beat(send: Any) -> None:
    try:
        while True:
            send(("alive",))
            time.sleep(_HEARTBEAT_S)
    except OSError:
        os._exit(_LOST_SERVER_STATUS)


def _answer(config: StudioConfig, connection: Connection, send: Any, model: LoadedModel) -> None:
    """Answer estimates while the main thread computes. Without a server the process ends at once."""
    studio = Studio(config)
    try:
        while True:
            number, request = connection.recv()
            try:
                answer = estimate(studio, request, model.pipeline)
            except Exception:  # noqa: BLE001 (the next one may succeed)
                _log.exception("an estimate failed")
                answer = {"error": "the memory of this request is unknown; the server's log says why"}
            send(("estimate", number, answer))
    except (EOFError, OSError):
        os._exit(_LOST_SERVER_STATUS)
