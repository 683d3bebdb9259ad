"""The queue: jobs with their state and order. Every method is one transaction.

A job is queued, then running, then done, failed or cancelled. A running job has an owner, the worker that claimed it;
whatever another worker reports about the job is ignored, so that a worker that was believed dead cannot add a second
copy of a video.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from videocrafter.web.store.database import Database, read_json

State = Literal["queued", "running", "done", "failed", "cancelled"]
ACTIVE: tuple[State, ...] = ("queued", "running")
_LIVE_INTERRUPTED = "the worker ended during this video; change the prompt, or choose another model"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of the queue."""

    id: str
    state: State
    request: Mapping[str, Any]
    created_s: float
    started_s: float | None
    finished_s: float | None
    attempts: int
    step: int
    num_steps: int
    preview: int
    cancel_requested: bool
    live: str | None
    notes: Sequence[str] = ()
    error: Mapping[str, Any] | None = None
    videos: Sequence[str] = field(default=())


class JobError(ValueError):
    """A change that the state of a job does not allow. `code` is fixed, for clients."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class JobStore:
    """The queue of a database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, request: Mapping[str, Any], *, key: str | None = None, most_queued: int) -> tuple[Job, bool]:
        """Add a job at the end of the queue, or return the one that was added with the same idempotency key.

        Returns the job, and whether it is new. Raises JobError "queue-full", or "idempotency-key-reused" if the key
        came with another request.
        """
        text = json.dumps(request, sort_keys=True)
        with self.database.writing() as connection:
            old = connection.execute("SELECT id, request FROM jobs WHERE idempotency_key = ?", (key,)).fetchone()
            if old is not None:
                if old["request"] != text:
                    raise JobError(
                        "idempotency-key-reused",
                        "this Idempotency-Key came with another request before; use a new key for a new job",
                    )
                return self.get(old["id"]), False
            self._check_room(most_queued)
            job = self._insert(connection, text, key=key)
        return self.get(job), True

    def add_live(self, page: str, request: Mapping[str, Any], *, most_queued: int) -> Job:
        """Add or replace the job of a page that follows its prompt: the last prompt wins.

        A job of the page that is running is cancelled. Raises JobError "queue-full".
        """
        with self.database.writing() as connection:
            waiting = connection.execute(
                "SELECT COUNT(*) FROM jobs WHERE state = 'queued' AND live IS NOT NULL AND live != ?", (page,)
            ).fetchone()[0]
            if waiting >= most_queued:
                raise JobError("queue-full", f"{waiting} live pages wait already; try again later")
            _drop_live(connection, page)
            job = self._insert(connection, json.dumps(request, sort_keys=True), live=page)
        return self.get(job)

    def end_live(self, page: str) -> None:
        """Drop the waiting job of a page that was closed, and cancel its running one."""
        with self.database.writing() as connection:
            _drop_live(connection, page)

    def _check_room(self, most_queued: int) -> None:
        waiting = self.num_waiting()
        if waiting >= most_queued:
            limit = f"{waiting} jobs are waiting, and the limit is {most_queued}"
            raise JobError("queue-full", f"{limit}; wait until some are finished, or cancel some")

    def _insert(
        self, connection: sqlite3.Connection, request: str, *, key: str | None = None, live: str | None = None
    ) -> str:
        job = uuid.uuid4().hex
        connection.execute(
            "INSERT INTO jobs (id, state, position, request, idempotency_key, live, created_s) VALUES"
            " (?, 'queued', (SELECT COALESCE(MAX(position), 0) + 1 FROM jobs), ?, ?, ?, ?)",
            (job, request, key, live, time.time()),
        )
        return job

    def get(self, job: str) -> Job:
        """Return a job. Raises KeyError for an unknown id."""
        rows = self._rows("WHERE id = ?", job)
        if not rows:
            raise KeyError(job)
        return rows[0]

    def waiting(self, until: str | None = None) -> list[Job]:
        """Return running and queued jobs in the order in which they run, without those of live pages.

        With `until`, the id of an active job, those after it are left out.
        """
        return self._rows(
            "WHERE live IS NULL AND (state = 'running' OR state = 'queued' AND (? OR position <="
            " (SELECT position FROM jobs WHERE id = ? AND state = 'queued'))) ORDER BY state = 'queued', position",
            until is None,
            until,
        )

    def num_waiting(self) -> int:
        """Return the number of queued jobs, without those of live pages."""
        return int(self.database.read("SELECT COUNT(*) FROM jobs WHERE state = 'queued' AND live IS NULL")[0][0])

    def finished(self, state: State | None, after: tuple[float, str] | None, limit: int) -> list[Job]:
        """Return done, failed and cancelled jobs, newest first, from the one after `after` (its time and id)."""
        index, condition = ("jobs_finished", "") if state is None else ("jobs_finished_by_state", " AND state = ?")
        return self._rows(
            # The ids first: an index gives them without reading the rest of the history.
            f"WHERE id IN (SELECT id FROM jobs INDEXED BY {index} WHERE live IS NULL AND finished_s IS NOT NULL"
            f"{condition} AND (finished_s, id) < (?, ?) ORDER BY finished_s DESC, id DESC LIMIT ?)"
            " ORDER BY finished_s DESC, id DESC",
            *([] if state is None else [state]),
            *(after or (float("inf"), "")),
            limit,
        )

    def _rows(self, condition: str, *values: object) -> list[Job]:
        rows = self.database.read(
            "SELECT *, (SELECT json_group_array(id) FROM (SELECT id FROM videos WHERE job = jobs.id ORDER BY number))"
            f" AS videos FROM jobs {condition}",
            *values,
        )
        return [_job(row) for row in rows]

    def claim(self, owner: str, *, attempts: int) -> Job | None:
        """Give the next job to a worker, or return None: nothing waits, or the queue is paused.

        A job of a live page is given only if no other waits. One that was started `attempts` times fails instead:
        whatever interrupted it would do so again.
        """
        with self.database.writing() as connection:
            failed = connection.execute(
                "UPDATE jobs SET state = 'failed', finished_s = ?, error = ?"
                " WHERE state = 'queued' AND attempts >= ?",
                (time.time(), _error("interrupted", _interrupted(attempts)), attempts),
            )
            if failed.rowcount:
                _set_flag(connection, "paused", "interrupted")
            paused = connection.execute("SELECT 1 FROM flags WHERE name = 'paused'").fetchone()
            row = connection.execute(
                "UPDATE jobs SET state = 'running', owner = ?, attempts = attempts + 1, started_s = ?, step = 0,"
                " num_steps = 0, preview = 0 WHERE state = 'queued' AND id = (SELECT id FROM jobs WHERE"
                " state = 'queued' AND (live IS NOT NULL OR ?) ORDER BY live IS NOT NULL, position LIMIT 1)"
                " RETURNING id",
                (owner, time.time(), not paused),
            ).fetchone()
            # Inside: a job whose row cannot be read must not stay claimed.
            return None if row is None else self.get(row["id"])

    def progress(
        self, job: str, owner: str, *, step: int, num_steps: int, preview: int, notes: Sequence[str] = ()
    ) -> None:
        """Store how far a running job is, and the number of its newest preview."""
        with self.database.writing() as connection:
            connection.execute(
                "UPDATE jobs SET step = ?, num_steps = ?, preview = ? WHERE id = ? AND owner = ?",
                (step, num_steps, preview, job, owner),
            )
            if notes:
                connection.execute(
                    "UPDATE jobs SET notes = ? WHERE id = ? AND owner = ?", (json.dumps([*notes]), job, owner)
                )

    def should_stop(self, job: str, owner: str) -> bool:
        """Return whether a worker must stop: the job was cancelled, or is no longer its own.

        A job of a live page also stops when another job waits.
        """
        rows = self.database.read(
            "SELECT cancel_requested OR (live IS NOT NULL AND EXISTS (SELECT 1 FROM jobs WHERE state = 'queued' AND"
            " live IS NULL AND NOT EXISTS (SELECT 1 FROM flags WHERE name = 'paused'))) FROM jobs"
            " WHERE id = ? AND owner = ? AND state = 'running'",
            job,
            owner,
        )
        return not rows or bool(rows[0][0])

    def finish(self, job: str, owner: str, state: State, error: Mapping[str, Any] | None = None) -> bool:
        """End a running job; return whether it was this worker's. A finished job of a live page is forgotten.

        A job whose cancellation was taken back meanwhile waits again.
        """
        with self.database.writing() as connection:
            if state == "cancelled":
                connection.execute(
                    "UPDATE jobs SET state = 'queued', owner = NULL, attempts = attempts - 1 WHERE id = ?"
                    " AND owner = ? AND state = 'running' AND NOT cancel_requested AND live IS NULL",
                    (job, owner),
                )
            changed = connection.execute(
                "UPDATE jobs SET state = ?, finished_s = ?, error = ?, owner = NULL WHERE id = ? AND owner = ?"
                " AND state = 'running'",
                (state, time.time(), None if error is None else json.dumps(error), job, owner),
            ).rowcount
            connection.execute(
                "DELETE FROM jobs WHERE live IS NOT NULL AND state NOT IN ('queued', 'running') AND finished_s < ?",
                (time.time() - 600,),
            )
        return bool(changed)

    def pause_after_equal_failures(self, count: int) -> None:
        """Pause the queue if the last `count` jobs since it was resumed failed for the same reason."""
        rows = self.database.read(
            "SELECT state, json_extract(error, '$.code') AS code, json_extract(error, '$.message') AS message"
            " FROM jobs WHERE live IS NULL AND state IN ('done', 'failed') AND finished_s > ?"
            " ORDER BY finished_s DESC LIMIT ?",
            float(self.flag("resumed_s") or 0),
            count,
        )
        # Messages of unexpected errors differ in their number.
        reasons = {(row["state"], row["code"], _without_number(row["message"])) for row in rows}
        if len(rows) == count and len(reasons) == 1 and rows[0]["state"] == "failed":
            self.set_flag("paused", "failures")

    def release(self, owner: str | None = None, *, interrupted: bool = True) -> int:
        """Put the jobs of a worker that ended, or of all workers, back into the queue; return their number.

        An attempt that was not `interrupted`, but ended by the user, does not count. A job of a live page does not
        return: it fails if it was interrupted, because its page would send the same request for ever.
        """
        with self.database.writing() as connection:
            connection.execute(
                "UPDATE jobs SET state = 'failed', error = ?, owner = NULL, finished_s = ?"
                " WHERE state = 'running' AND (owner = ? OR ?) AND live IS NOT NULL AND NOT cancel_requested AND ?",
                (_error("interrupted", _LIVE_INTERRUPTED), time.time(), owner, owner is None, interrupted),
            )
            return connection.execute(
                "UPDATE jobs SET state = CASE WHEN cancel_requested OR live IS NOT NULL THEN 'cancelled'"
                " ELSE 'queued' END, owner = NULL,"
                " finished_s = CASE WHEN cancel_requested OR live IS NOT NULL THEN ? END, attempts = attempts - ?"
                " WHERE state = 'running' AND (owner = ? OR ?)",
                (time.time(), int(not interrupted), owner, owner is None),
            ).rowcount

    def cancel(self, job: str) -> Job:
        """Cancel a queued job now, a running one at its next step. Raises KeyError; nothing changes afterwards."""
        with self.database.writing() as connection:
            connection.execute(
                "UPDATE jobs SET state = 'cancelled', finished_s = ? WHERE id = ? AND state = 'queued'",
                (time.time(), job),
            )
            connection.execute("UPDATE jobs SET cancel_requested = 1 WHERE id = ? AND state = 'running'", (job,))
        return self.get(job)

    def remove(self, job: str) -> None:
        """Remove a finished job from the list; its videos stay. Raises KeyError or JobError "job-active"."""
        if self.get(job).state in ACTIVE:
            raise JobError("job-active", "the job is not finished; cancel it first")
        with self.database.writing() as connection:
            connection.execute("DELETE FROM jobs WHERE id = ? AND state NOT IN ('queued', 'running')", (job,))

    def retry(self, job: str, *, most_queued: int) -> Job:
        """Put a failed or cancelled job at the end of the queue; finished videos of it are kept.

        A job that is being cancelled continues. Raises KeyError, or JobError "job-not-retryable" or "queue-full".
        """
        with self.database.writing() as connection:
            if self.get(job).state in ("failed", "cancelled"):
                self._check_room(most_queued)
            changed = connection.execute(
                "UPDATE jobs SET cancel_requested = 0 WHERE id = ? AND live IS NULL AND state = 'running'"
                " AND cancel_requested",
                (job,),
            ).rowcount
            changed += connection.execute(
                "UPDATE jobs SET state = 'queued', attempts = 0, cancel_requested = 0, error = NULL,"
                " finished_s = NULL, started_s = NULL, step = 0, preview = 0,"
                " position = (SELECT MAX(position) + 1 FROM jobs)"
                " WHERE id = ? AND live IS NULL AND state IN ('failed', 'cancelled')",
                (job,),
            ).rowcount
        found = self.get(job)
        if not changed:
            raise JobError(
                "job-not-retryable", f"the job is {found.state}; only a failed or cancelled one runs again"
            )
        return found

    def edit(self, job: str, request: Mapping[str, Any]) -> Job:
        """Replace the request of a queued job. Raises KeyError, or JobError "job-started"."""
        with self.database.writing() as connection:
            changed = connection.execute(
                "UPDATE jobs SET request = ? WHERE id = ? AND state = 'queued' AND attempts = 0 AND NOT EXISTS"
                " (SELECT 1 FROM videos WHERE job = jobs.id)",
                (json.dumps(request, sort_keys=True), job),
            ).rowcount
        found = self.get(job)
        if not changed:
            raise JobError("job-started", f"the job is {found.state}; only a job that has not started can be edited")
        return found

    def move(self, job: str, before: str | None) -> Job:
        """Move a queued job before another one, or to the end. Raises KeyError, or JobError "job-started"."""
        with self.database.writing() as connection:
            rows = connection.execute(
                "SELECT id, position FROM jobs WHERE state = 'queued' AND live IS NULL ORDER BY position"
            ).fetchall()
            order = [row["id"] for row in rows]
            if job not in order or (before is not None and before not in order):
                missing = job if job not in order else str(before)
                raise JobError("job-started", f"the job {missing} is not waiting; only waiting jobs can be moved")
            if before != job:
                order.remove(job)
                order.insert(len(order) if before is None else order.index(before), job)
                changes = [(row["position"], one, row["position"]) for row, one in zip(rows, order, strict=True)]
                connection.executemany("UPDATE jobs SET position = ? WHERE id = ? AND position != ?", changes)
        return self.get(job)

    def flag(self, name: str) -> str | None:
        """Return a flag, such as the reason why the queue is "paused"; None if it is not set."""
        rows = self.database.read("SELECT value FROM flags WHERE name = ?", name)
        return rows[0]["value"] if rows else None

    def set_flag(self, name: str, value: str | None) -> None:
        """Set or remove a flag."""
        if self.flag(name) == value:
            return
        with self.database.writing() as connection:
            if value is None:
                connection.execute("DELETE FROM flags WHERE name = ?", (name,))
                if name == "paused":
                    _set_flag(connection, "resumed_s", repr(time.time()))
            else:
                _set_flag(connection, name, value)


def _set_flag(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute(
        "INSERT INTO flags VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value)
    )


def _drop_live(connection: sqlite3.Connection, page: str) -> None:
    connection.execute("DELETE FROM jobs WHERE live = ? AND state = 'queued'", (page,))
    connection.execute("UPDATE jobs SET cancel_requested = 1 WHERE live = ? AND state = 'running'", (page,))


def _without_number(message: str | None) -> str | None:
    return None if message is None else re.sub(r"error [0-9a-f]{8}$", "error", message)


def _error(code: str, message: str) -> str:
    return json.dumps({"code": code, "message": message})


def _interrupted(attempts: int) -> str:
    return f"the worker ended {attempts} times during this job; try smaller settings, then retry"


def _job(row: sqlite3.Row) -> Job:
    values = {name: row[name] for name in ("id", "state", "created_s", "started_s", "finished_s", "attempts", "live")}
    values |= {name: row[name] for name in ("step", "num_steps", "preview")}
    return Job(
        **values,
        request=read_json(row["request"]),
        cancel_requested=bool(row["cancel_requested"]),
        notes=read_json(row["notes"]),
        error=None if row["error"] is None else read_json(row["error"]),
        videos=json.loads(row["videos"]),
    )
