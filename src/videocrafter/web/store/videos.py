"""Finished videos: the gallery, with search, stars and a bin."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from videocrafter.web.store.database import Database, read_json

_HISTORY = 5
_COLUMNS = (
    *("id", "job", "number", "prompt", "model", "width", "height", "num_frames", "playback_fps", "num_bytes"),
    *("seconds", "workload"),
)


@dataclass(frozen=True, kw_only=True)
class Video:
    """A finished video.

    Attributes:
        job, number: its job, and its place among the videos of the job.
        request: the settings that make it again, as `POST jobs` takes them, with its own seed.
        recording: every setting, as stored in the file.
        seconds: time that it took.
        workload: equal for videos that take equally long.
    """

    id: str
    job: str
    number: int
    prompt: str
    model: str
    request: Mapping[str, Any]
    recording: Mapping[str, Any]
    width: int
    height: int
    num_frames: int
    playback_fps: float
    num_bytes: int
    seconds: float
    workload: str
    live: bool = False
    created_s: float = 0.0
    starred: bool = False
    deleted_s: float | None = None


class VideoStore:
    """The videos of a database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, video: Video, owner: str) -> bool:
        """Add a video if its job still belongs to the worker; return whether it does. Twice is once."""
        with self.database.writing() as connection:
            mine = connection.execute(
                "SELECT 1 FROM jobs WHERE id = ? AND owner = ? AND state = 'running'", (video.job, owner)
            ).fetchone()
            if mine is not None:
                _insert(connection, video, time.time())
        return mine is not None

    def adopt(self, video: Video, created_s: float) -> None:
        """Add a video whose job is not known any more."""
        with self.database.writing() as connection:
            _insert(connection, video, created_s)

    def numbers_of(self, job: str) -> set[int]:
        """Return which videos of a job exist, also in the bin."""
        return {row["number"] for row in self.database.read("SELECT number FROM videos WHERE job = ?", job)}

    def get(self, video: str) -> Video:
        """Return a video, also from the bin. Raises KeyError for an unknown id."""
        rows = self.database.read("SELECT * FROM videos WHERE id = ?", video)
        if not rows:
            raise KeyError(video)
        return _video(rows[0])

    def some(self, videos: Sequence[str]) -> list[Video]:
        """Return those of some videos that exist, in their order."""
        marks = ", ".join("?" * len(videos))
        rows = {row["id"]: row for row in self.database.read(f"SELECT * FROM videos WHERE id IN ({marks})", *videos)}
        return [_video(rows[video]) for video in videos if video in rows]

    def of_job(self, job: str) -> list[Video]:
        """Return the videos of a job, also those in the bin."""
        rows = self.database.read("SELECT * FROM videos WHERE job = ? ORDER BY number", job)
        return [_video(row) for row in rows]

    def page(
        self,
        *,
        text: str = "",
        model: str | None = None,
        starred: bool = False,
        in_bin: bool = False,
        after: tuple[float, str] | None = None,
        limit: int = 60,
    ) -> list[Video]:
        """Return videos, newest first, from the one after `after` (its time and id).

        Args:
            text: words that must all occur in the prompt.
            model: name of a model.
            starred: only those with a star.
            in_bin: those in the bin instead.
        """
        conditions = ["live = 0", f"deleted_s IS {'NOT NULL' if in_bin else 'NULL'}"]
        values: list[object] = []
        for word in text.split():
            conditions.append(r"prompt LIKE ? ESCAPE '\'")
            escaped = word.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
            values.append(f"%{escaped}%")
        if model is not None:
            conditions.append("model = ?")
            values.append(model)
        if starred:
            conditions.append("starred = 1")
        if after is not None:
            conditions.append("(created_s, id) < (?, ?)")
            values += after
        rows = self.database.read(
            f"SELECT * FROM videos WHERE {' AND '.join(conditions)} ORDER BY created_s DESC, id DESC LIMIT ?",
            *values,
            limit,
        )
        return [_video(row) for row in rows]

    def models(self) -> list[str]:
        """Return the models of the videos in the gallery."""
        rows = self.database.read("SELECT DISTINCT model FROM videos WHERE live = 0 ORDER BY model")
        return [row["model"] for row in rows]

    def star(self, video: str, starred: bool) -> Video:
        """Set or remove a star. Raises KeyError for an unknown id."""
        return self._change(video, "starred", int(starred))

    def set_deleted(self, video: str, deleted: bool) -> Video:
        """Move a video to the bin, or back. Raises KeyError for an unknown id."""
        return self._change(video, "deleted_s", time.time() if deleted else None)

    def _change(self, video: str, column: str, value: object) -> Video:
        with self.database.writing() as connection:
            connection.execute(f"UPDATE videos SET {column} = ? WHERE id = ?", (value, video))
        return self.get(video)

    def expired(self, bin_days: float, live_s: float = 600.0) -> list[str]:
        """Return videos that have been in the bin for long, and old ones of live pages."""
        now = time.time()
        rows = self.database.read(
            "SELECT id FROM videos WHERE deleted_s < ? OR (live = 1 AND created_s < ?)",
            now - bin_days * 86400,
            now - live_s,
        )
        return [row["id"] for row in rows]

    def in_bin(self) -> list[str]:
        """Return all videos in the bin."""
        return [row["id"] for row in self.database.read("SELECT id FROM videos WHERE deleted_s IS NOT NULL")]

    def forget(self, videos: Sequence[str]) -> None:
        """Remove rows; the caller removes the files first."""
        with self.database.writing() as connection:
            connection.executemany("DELETE FROM videos WHERE id = ?", [(video,) for video in videos])

    def ids(self) -> set[str]:
        """Return the ids of all videos."""
        return {row["id"] for row in self.database.read("SELECT id FROM videos")}

    def typical_seconds(self, workload: str) -> float | None:
        """Return the median time of the last videos of a workload, or None if there are none."""
        rows = self.database.read(
            "SELECT seconds FROM videos WHERE workload = ? ORDER BY created_s DESC LIMIT ?", workload, _HISTORY
        )
        seconds = sorted(row["seconds"] for row in rows)
        return seconds[len(seconds) // 2] if seconds else None


def _insert(connection: sqlite3.Connection, video: Video, created_s: float) -> None:
    values: dict[str, Any] = {name: getattr(video, name) for name in _COLUMNS}
    values |= {"request": json.dumps(video.request), "recording": json.dumps(video.recording)}
    values |= {"created_s": created_s, "live": video.live}
    marks = ", ".join(f":{name}" for name in values)
    connection.execute(f"INSERT OR IGNORE INTO videos ({', '.join(values)}) VALUES ({marks})", values)


def _video(row: sqlite3.Row) -> Video:
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118 (a Row iterates over its values)
    values |= {name: read_json(row[name]) for name in ("request", "recording")}
    values |= {name: bool(row[name]) for name in ("live", "starred")}
    return Video(**values)
