"""Uploaded images and clips. The same content is stored once."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Literal

from videocrafter.web.store.database import Database

UploadKind = Literal["image", "clip"]

_NAMED = " UNION ".join(
    f"SELECT value FROM {table}, json_each({table}.request) WHERE type = 'text' AND length(value) = 32"
    for table in ("jobs", "videos")
)
"""All texts of requests that may be ids."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An uploaded file that was checked."""

    id: str
    kind: UploadKind
    suffix: str
    sha256: str
    width: int
    height: int
    num_bytes: int
    created_s: float = 0.0


class UploadStore:
    """The uploads of a database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def new_id(self) -> str:
        """Return an id for a file that is about to be stored."""
        return uuid.uuid4().hex

    def add(self, upload: Upload) -> Upload:
        """Add an upload whose file is in place, or return the one with the same content."""
        with self.database.writing() as connection:
            connection.execute(
                "INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (kind, sha256) DO UPDATE SET created_s = excluded.created_s",
                (
                    upload.id,
                    upload.kind,
                    upload.suffix,
                    upload.sha256,
                    upload.width,
                    upload.height,
                    upload.num_bytes,
                    time.time(),
                ),
            )
        found = self.by_content(upload.sha256, upload.kind)
        assert found is not None
        return found

    def get(self, upload: str) -> Upload:
        """Return an upload. Raises KeyError for an unknown id."""
        rows = self.database.read("SELECT * FROM uploads WHERE id = ?", upload)
        if not rows:
            raise KeyError(upload)
        return Upload(**dict(rows[0]))

    def unused(self, days: float) -> list[Upload]:
        """Return uploads older than `days` that the request of no job and no video names."""
        rows = self.database.read(
            f"SELECT * FROM uploads WHERE created_s < ? AND id NOT IN ({_NAMED})", time.time() - days * 86400
        )
        return [Upload(**dict(row)) for row in rows]

    def forget(self, upload: str) -> bool:
        """Remove the row of an unused upload; return whether it was still unused. The file goes afterwards."""
        with self.database.writing() as connection:
            return bool(
                connection.execute(
                    # A job that was added meanwhile waits or runs.
                    "DELETE FROM uploads WHERE id = ? AND NOT EXISTS (SELECT 1 FROM jobs WHERE state IN"
                    " ('queued', 'running') AND instr(request, uploads.id))",
                    (upload,),
                ).rowcount
            )

    def ids(self) -> set[str]:
        """Return the ids of all uploads."""
        return {row["id"] for row in self.database.read("SELECT id FROM uploads")}

    def by_content(self, sha256: str, kind: UploadKind) -> Upload | None:
        """Return the upload with this content, or None."""
        rows = self.database.read("SELECT * FROM uploads WHERE sha256 = ? AND kind = ?", sha256, kind)
        return Upload(**dict(rows[0])) if rows else None
