"""Kinds of media files, by file name."""

from __future__ import annotations

from collections.abc import Iterable

from videocrafter.data.clip import Kind

VIDEO_SUFFIXES = (
    ".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".gif",
    ".3gp", ".mts", ".m2ts", ".ogv", ".vob",
)  # fmt: skip
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SUFFIXES: dict[Kind, tuple[str, ...]] = {"video": VIDEO_SUFFIXES, "image": IMAGE_SUFFIXES}


def kind_of(name: str) -> Kind | None:
    """Return the kind of a file, or None if it is neither a video nor an image."""
    for kind, suffixes in SUFFIXES.items():
        if name.lower().endswith(suffixes):
            return kind
    return None


def main_kind(names: Iterable[str]) -> Kind | None:
    """Return the more frequent kind; "video" for a tie, None if no file is a video or an image."""
    kinds = [kind_of(name) for name in names]
    videos, images = kinds.count("video"), kinds.count("image")
    if not videos and not images:
        return None
    return "video" if videos >= images else "image"
