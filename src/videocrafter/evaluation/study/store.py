"""Answers of a study in SQLite: raters, their questions, and what they said.

Every change is one transaction in a write-ahead log that is flushed to disk before the commit returns, so an answer
that was acknowledged survives a killed process and a power failure.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videocrafter.evaluation.study.assignment import Task, assign
from videocrafter.evaluation.study.design import CHOICES, RATINGS, StudyDesign

DATABASE_FILE = "answers.sqlite3"
_VERSION = 1
# A rater who has been away for a day may not come back, so others get the same questions.
_SECONDS_UNTIL_ABANDONED = 24 * 3600.0
_SECONDS_COUNTED = 60.0
_MAX_SECONDS = 24 * 3600.0
_MAX_PLAYS = 10_000

_SCHEMA = """
CREATE TABLE study (design_hash TEXT NOT NULL);
CREATE TABLE raters (
    id INTEGER PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('active', 'finished', 'withdrawn'))
);
CREATE TABLE tasks (
    rater INTEGER NOT NULL REFERENCES raters(id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    item INTEGER NOT NULL,
    swapped INTEGER NOT NULL CHECK (swapped IN (0, 1)),
    role TEXT NOT NULL CHECK (role IN ('training', 'vote', 'check')),
    assigned_s REAL NOT NULL,
    PRIMARY KEY (rater, position)
) WITHOUT ROWID;
CREATE INDEX tasks_by_item ON tasks (role, item);
CREATE TABLE answers (
    rater INTEGER NOT NULL,
    position INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    request TEXT NOT NULL,
    answer TEXT NOT NULL,
    seconds REAL NOT NULL,
    plays INTEGER NOT NULL,
    PRIMARY KEY (rater, position),
    FOREIGN KEY (rater, position) REFERENCES tasks(rater, position) ON DELETE CASCADE
) WITHOUT ROWID;
"""


class StudyError(ValueError):
    """A request that cannot be fulfilled. `status` is its HTTP status, `code` a word for programs."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class UnknownRaterError(StudyError):
    """A token that belongs to nobody."""

    def __init__(self) -> None:
        super().__init__(401, "unknown", "This link is not valid. Check that you copied all of it.")


class WithdrawnError(StudyError):
    """A rater who withdrew."""

    def __init__(self) -> None:
        super().__init__(410, "withdrawn", "You have withdrawn, and your answers were deleted.")


@dataclass(frozen=True, kw_only=True)
class StoredAnswer:
    """An answer as stored; `revision` counts its changes from 1."""

    answer: Mapping[str, Any]
    revision: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A rater's place: the number of tasks, the first one without an answer, and whether none is missing."""

    total: int
    next: int
    finished: bool


def token_hash(token: str) -> str:
    """Return the form in which a token is stored: who reads the database cannot answer in a rater's name."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def completion_code(digest: str) -> str:
    """Return the code that a rater gets at the end, from the hash of the token."""
    return hashlib.sha256(f"completion/{digest}".encode()).hexdigest()[:8].upper()


def open_database(path: Path, design: StudyDesign) -> sqlite3.Connection:
    """Open the answers of a study, creating the file if there is none.

    Raises:
        ValueError: the answers belong to another design, or the file is not such a database.
    """
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # a withdrawal overwrites what it deletes
        connection.execute("BEGIN IMMEDIATE")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute("INSERT INTO study VALUES (?)", (design.hash,))
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        elif version != _VERSION:
            raise ValueError(f"{path} has format {version}, expected {_VERSION}; use the version that wrote it")
        found = connection.execute("SELECT design_hash FROM study").fetchone()[0]
        if found != design.hash:
            raise ValueError(
                f"{path} holds answers to another design than the study's design.json; restore the original design"
            )
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        connection.close()
        if "locked" in str(error):
            raise ValueError(f"{path} is held by another process; stop that one, or try again later") from error
        raise ValueError(f"{path} cannot be used as a study's answers ({error}); restore it from a copy") from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open answers that `open_database` has opened. The connection changes nothing, and never waits for a lock."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=0.0, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


@dataclass(kw_only=True)
class _Counts:
    """Counts over all questions, kept because counting them again for every new rater takes too long.

    Attributes:
        seats: raters who count.
        shown: how often each item was assigned in order and swapped.
        last_rater: the newest rater that is included. It differs from the database's after work that was undone.
        counted_s: time of the pass.
    """

    seats: int
    shown: dict[int, tuple[int, int]]
    last_rater: int
    counted_s: float


class AnswerStore:
    """Operations on an open database. Each expects to run inside a transaction of its caller."""

    def __init__(self, design: StudyDesign, connection: sqlite3.Connection) -> None:
        self._design, self._db = design, connection
        self._counted: _Counts | None = None

    def join(self) -> str:
        """Add a rater to an open study; return the token of the personal link.

        Raises:
            StudyError: the study is by invitation only, or full.
        """
        if self._design.entry != "open":
            raise StudyError(403, "invited_only", "This study is by invitation. Use the link that you were sent.")
        token = secrets.token_urlsafe(16)
        self._add(token_hash(token))
        return token

    def _add(self, digest: str) -> int:
        now = time.time()
        counts = self._counts(now)
        if counts.seats >= self._design.max_raters:
            raise StudyError(409, "full", "This study has all the answers it needs. Thank you for your interest.")
        cursor = self._db.execute("INSERT INTO raters (token_hash, state) VALUES (?, 'active')", (digest,))
        rater = int(cursor.lastrowid or 0)
        tasks = assign(self._design, counts.shown, rater)
        self._db.executemany(
            "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?)",
            [(rater, index, task.item, int(task.swapped), task.role, now) for index, task in enumerate(tasks)],
        )
        counts.seats, counts.last_rater = counts.seats + 1, rater
        for task in tasks:
            if task.role == "vote":
                in_order, swapped = counts.shown.get(task.item, (0, 0))
                counts.shown[task.item] = in_order + (not task.swapped), swapped + task.swapped
        return rater

    def _counts(self, now: float) -> _Counts:
        """Return the numbers so far, counted again every minute, because raters may have left meanwhile."""
        last = self._db.execute("SELECT MAX(id) FROM raters").fetchone()[0] or 0
        counts = self._counted
        if counts is None or counts.last_rater != last or not 0.0 <= now - counts.counted_s < _SECONDS_COUNTED:
            counts = _Counts(seats=self._seats(now), shown=self._shown(now), last_rater=last, counted_s=now)
            self._counted = counts
        return counts

    def _seats(self, now: float) -> int:
        """Return the number of raters who count: not those who withdrew, or left for a day without any answer."""
        count = self._db.execute(
            "SELECT COUNT(*) FROM raters WHERE state = 'finished' OR state = 'active' AND ("
            " EXISTS (SELECT 1 FROM answers WHERE answers.rater = raters.id)"
            " OR EXISTS (SELECT 1 FROM tasks WHERE tasks.rater = raters.id AND assigned_s > ?))",
            (now - _SECONDS_UNTIL_ABANDONED,),
        ).fetchone()[0]
        return int(count)

    def _shown(self, now: float) -> dict[int, tuple[int, int]]:
        """Return how often each item was assigned in order and swapped, without abandoned questions."""
        rows = self._db.execute(
            "SELECT item, SUM(1 - swapped), SUM(swapped) FROM tasks LEFT JOIN answers USING (rater, position)"
            " WHERE role = 'vote' AND (answer IS NOT NULL OR assigned_s > ?) GROUP BY item",
            (now - _SECONDS_UNTIL_ABANDONED,),
        )
        return {item: (in_order, swapped) for item, in_order, swapped in rows}

    def rater(self, token: str) -> int:
        """Return the number of a token's rater. An invited rater is added at the first visit.

        Raises:
            StudyError: nobody has this token, or its rater has withdrawn.
        """
        rater = self.known_rater(token)
        return self._add(token_hash(token)) if rater is None else rater

    def known_rater(self, token: str) -> int | None:
        """Return the number of a token's rater; None for an invited rater who has not come yet. Changes nothing.

        Raises:
            StudyError: nobody has this token, or its rater has withdrawn.
        """
        digest = token_hash(token)
        row = self._db.execute("SELECT id, state FROM raters WHERE token_hash = ?", (digest,)).fetchone()
        if row is None:
            if digest not in self._design.invitations:
                raise UnknownRaterError
            return None
        if row[1] == "withdrawn":
            raise WithdrawnError
        return int(row[0])

    def progress(self, rater: int) -> Progress:
        """Return how far a rater is."""
        total, answered = self._db.execute(
            "SELECT COUNT(*), COUNT(answer) FROM tasks LEFT JOIN answers USING (rater, position) WHERE rater = ?",
            (rater,),
        ).fetchone()
        # Answers are accepted in order, so the first missing one follows those that exist.
        return Progress(total=total, next=answered, finished=answered == total)

    def task(self, rater: int, position: int) -> tuple[Task, StoredAnswer | None]:
        """Return a task and its answer.

        Raises:
            StudyError: there is no such task.
        """
        row = self._db.execute(
            "SELECT item, swapped, role, answer, revision FROM tasks LEFT JOIN answers USING (rater, position)"
            " WHERE rater = ? AND position = ?",
            (rater, position),
        ).fetchone()
        if row is None:
            raise StudyError(404, "no_task", f"There is no question {position + 1}.")
        task = Task(item=row[0], swapped=bool(row[1]), role=row[2])
        stored = None if row[3] is None else StoredAnswer(answer=json.loads(row[3]), revision=row[4])
        return task, stored

    def answer(
        self,
        rater: int,
        position: int,
        answer: Mapping[str, Any],
        *,
        revision: int,
        request: str,
        seconds: float,
        plays: int,
    ) -> StoredAnswer:
        """Store an answer, or return the stored one if it is the same.

        Args:
            rater: number of the rater.
            position: of the task.
            answer: one choice or rating per aspect.
            revision: of the answer that the rater saw; 0 for none. It prevents a second window from overwriting a
                newer answer with an older one.
            request: identifier of the attempt. Sending it again, because the reply was lost, changes nothing.
            seconds: time that the rater took.
            plays: number of times that the videos were played.

        Raises:
            StudyError: the answer is not valid, comes before earlier ones, or another window has answered meanwhile.
        """
        self._check_answer(answer, request, seconds, plays)
        _, stored = self.task(rater, position)
        text = json.dumps({name: answer[name] for name in self._design.aspects})
        if stored is not None:
            known = self._db.execute(
                "SELECT request FROM answers WHERE rater = ? AND position = ?", (rater, position)
            ).fetchone()[0]
            if known == request or dict(stored.answer) == dict(answer):
                return stored
        elif position > self.progress(rater).next:
            raise StudyError(409, "order", "Please answer the earlier questions first.")
        if revision != (0 if stored is None else stored.revision):
            raise StudyError(409, "conflict", "This question was answered in another window. That answer was kept.")
        self._db.execute(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)",
            (rater, position, revision + 1, request, text, min(seconds, _MAX_SECONDS), min(plays, _MAX_PLAYS)),
        )
        if self.progress(rater).finished:
            self._db.execute("UPDATE raters SET state = 'finished' WHERE id = ?", (rater,))
        return StoredAnswer(answer=dict(answer), revision=revision + 1)

    def _check_answer(self, answer: Mapping[str, Any], request: str, seconds: float, plays: int) -> None:
        allowed: Sequence[Any] = CHOICES if self._design.kind == "pairs" else RATINGS
        valid = set(answer) == set(self._design.aspects) and all(
            value in allowed and not isinstance(value, bool | float) for value in answer.values()
        )
        if not valid:
            raise StudyError(422, "answer", f"Please answer every aspect with one of {', '.join(map(str, allowed))}.")
        if not (1 <= len(request) <= 64 and seconds >= 0.0 and plays >= 0):
            raise StudyError(422, "answer", "The request identifier, the time or the number of plays is not valid.")

    def withdraw(self, rater: int) -> None:
        """Delete a rater's questions and answers. The link stays known, so that it cannot be used again."""
        self._db.execute("DELETE FROM tasks WHERE rater = ?", (rater,))
        self._db.execute("UPDATE raters SET state = 'withdrawn' WHERE id = ?", (rater,))
        self._counted = None

    def code(self, rater: int) -> str:
        """Return a rater's completion code."""
        digest = self._db.execute("SELECT token_hash FROM raters WHERE id = ?", (rater,)).fetchone()[0]
        return completion_code(digest)
