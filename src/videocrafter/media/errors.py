"""Errors of reading and writing media files. Each message is one line that says what to do."""

from __future__ import annotations

from pathlib import Path


class MediaError(ValueError):
    """A file cannot be read or written. The message names the file, what is allowed and what to do."""


class OutputError(MediaError, OSError):
    """The system refuses to write an output: a full disk, no permission, a read-only disk."""


class OutputExistsError(MediaError):
    """The output exists and may not be overwritten."""

    @classmethod
    def of(cls, path: Path) -> OutputExistsError:
        """Return the error for `path`."""
        return cls(f"{path} already exists; choose another name, or pass --overwrite to replace it")
