"""Settings in which columns differ, from the recordings of their videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from videocrafter.evaluation.video_set import VideoEntry

# Belong to one video, or to the machine that made it.
_NOT_SETTINGS = frozenset(
    {"prompt", "seed", "image", "image_end", "video", "continued", "device", "versions", "sample", "path"}
)
SEVERAL = "several"
"""Shown for a setting that differs within a column."""


def setting_table(columns: Mapping[str, Sequence[VideoEntry]]) -> dict[str, dict[str, str]]:
    """Return, by setting, its value in each column; only settings that are not equal in all columns.

    A setting that a column's recordings do not state is an empty text. Sets without recordings have no settings.
    """
    stated = {name: settings_of(entries) for name, entries in columns.items()}
    keys = dict.fromkeys(key for values in stated.values() for key in values)
    table = {key: {name: values.get(key, "") for name, values in stated.items()} for key in keys}
    return {key: row for key, row in table.items() if len(set(row.values())) > 1}


def settings_of(entries: Sequence[VideoEntry]) -> dict[str, str]:
    """Return the settings that recordings state, as text; `SEVERAL` where they differ."""
    found: dict[str, set[str]] = {}
    for entry in entries:
        for key, value in _flat(entry.metadata):
            found.setdefault(key, set()).add(_text(value))
    return {key: min(values) if len(values) == 1 else SEVERAL for key, values in found.items()}


def _flat(metadata: Mapping[str, Any]) -> list[tuple[str, Any]]:
    pairs = ((str(key), value) for key, value in metadata.items())
    return [(key, value) for key, value in pairs if key not in _NOT_SETTINGS and not key.endswith("_sha256")]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    return "none" if value is None else str(value).strip() or "empty"
