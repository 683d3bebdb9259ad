"""The studio's folder on disk: where the database and each kind of file are.

File names are made of ids only; text of users never becomes part of a path.
"""

from __future__ import annotations

import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

_ID = re.compile(r"[0-9a-f]{32}")
_VIDEO_IDS = uuid.UUID("6f1d2a80-5f5c-4c53-9d0c-6a6f3a5a7e11")


def video_id(job: str, number: int) -> str:
    """Return the id of a video: the same each time that its job runs, so that no video exists twice."""
    return uuid.uuid5(_VIDEO_IDS, f"{job}/{number}").hex


def is_id(text: str) -> bool:
    """Return whether a text has the form of an id: 32 hexadecimal digits."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True)
class DataFolder:
    """Paths below the folder that `--data` names."""

    root: Path

    @property
    def database(self) -> Path:
        """The jobs, videos and uploads."""
        return self.root / "studio.sqlite3"

    @property
    def lock(self) -> Path:
        """Held by the one studio that uses the folder."""
        return self.root / "studio.lock"

    @property
    def loras(self) -> Path:
        """LoRAs that the studio offers, placed there by the owner of the machine."""
        return self.root / "loras"

    @property
    def models(self) -> Path:
        """Pipeline folders that the studio offers, placed there by the owner of the machine."""
        return self.root / "models"

    @property
    def uploads(self) -> Path:
        """Images and clips that were uploaded."""
        return self.root / "uploads"

    def video(self, video: str) -> Path:
        """A video; its recording lies next to it."""
        return self.root / "videos" / f"{_checked(video)}.mp4"

    def poster(self, video: str) -> Path:
        """The still image of a video."""
        return self.root / "posters" / f"{_checked(video)}.webp"

    def preview(self, job: str) -> Path:
        """The animated preview of a running job."""
        return self.root / "previews" / f"{_checked(job)}.webp"

    def upload(self, upload: str, suffix: str) -> Path:
        """An uploaded file; the suffix follows from its content."""
        return self.uploads / f"{_checked(upload)}{suffix}"

    def create(self) -> None:
        """Create the folders that are missing."""
        for name in ("videos", "posters", "previews", "uploads", "loras", "models"):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def free_bytes(self) -> int:
        """Free space of the disk."""
        return shutil.disk_usage(self.root).free


def _checked(text: str) -> str:
    if not is_id(text):
        raise ValueError(f"{text[:40]!r} is not an id")
    return text
