"""Errors of reading and writing media files. Each message is one line that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Reason = Literal[
    "missing", "unreadable", "truncated", "no_frames", "audio_only", "absurd_size", "no_rate", "too_slow"
]


class MediaError(ValueError):
    """A file cannot be read or written. The message names the file, what is allowed and what to do."""


class UnusableMediaError(MediaError):
    """A file that contains no trustworthy frames; `reason` is a one-word category."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


class OutputError(MediaError, OSError):
    """The system refuses to write an output: a full disk, no permission, a read-only disk."""


class OutputExistsError(MediaError):
    """The output exists and may not be overwritten."""

    @classmethod
    def of(cls, path: Path) -> OutputExistsError:
        """Return the error for `path`."""
        return cls(f"{path} already exists; choose another name, or pass --overwrite to replace it")
