"""Paths in recordings: relative to the video, so that a recording that is passed on reveals nothing else.

A path is recorded relative to the folder of the video if both are in the same project, and otherwise as a bare name.
A run that repeats a video looks for it next to the recording, then in the current folder, and then for a file with
the same hash.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from videocrafter.media.file_hash import file_sha256

_CHUNK = 2**20
_MOST_HASHED = 200


def recorded_path(path: Path, folder: Path, *, absolute: bool = False) -> str:
    """Return the text that a recording in `folder` stores for a path.

    Only the name is stored if the path has nothing in common with `folder` but the root, the folder of all home
    folders, or the like.
    """
    # A link keeps its own name.
    full = path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name
    folder = folder.resolve()
    if absolute:
        return str(full)
    try:
        common = Path(os.path.commonpath([full, folder]))
    except ValueError:  # other drives of Windows
        return full.name
    if common == Path(common.anchor) or common in Path.home().resolve().parents:
        return full.name
    return Path(os.path.relpath(full, folder)).as_posix()


def find_recorded(recorded: str, folder: Path, sha256: str | None = None) -> Path | None:
    """Return the file or folder that a recording in `folder` names, or None.

    Args:
        recorded: a path as `recorded_path` returns, or an absolute one.
        sha256: of the file's content; a file with another one is returned only if none has this one.
    """
    found = [path for path in _places(recorded, folder) if path.exists()]
    if sha256 is None or any(path.is_dir() for path in found):
        return found[0] if found else None
    same = (path for path in (*found, *_similar(recorded, folder)) if file_sha256(path) == sha256)
    return next(same, found[0] if found else None)


def _places(recorded: str, folder: Path) -> Iterator[Path]:
    path = Path(recorded)
    yield folder / path
    yield path
    yield folder / path.name
    yield Path(path.name)


def _similar(recorded: str, folder: Path) -> list[Path]:
    """List files of the same kind next to the recording and in the current folder."""
    suffix = Path(recorded).suffix.lower()
    similar: list[Path] = []
    for place in dict.fromkeys([folder, Path()]):
        files = (path for path in sorted(place.glob("*")) if path.suffix.lower() == suffix and path.is_file())
        similar += list(files)[:_MOST_HASHED]
    return similar
