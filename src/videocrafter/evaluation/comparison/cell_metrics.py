"""Metrics of single videos, from the report of an evaluation next to them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videocrafter.data.text_files import decode_text
from videocrafter.media.json_file import parse_json_object

VIDEOS_FILE = "videos.jsonl"


def find_metrics(folder: Path) -> Path | None:
    """Return the file with the metrics of a folder's videos: in the folder, or in its parent (evaluated models)."""
    places = (folder / VIDEOS_FILE, folder.absolute().parent / VIDEOS_FILE)
    return next((path for path in places if path.is_file()), None)


def read_metrics(path: Path) -> dict[tuple[str, str, int | None], dict[str, float]]:
    """Return the values of each video by its name, prompt and seed.

    Raises:
        ValueError: a line is damaged; the message names it.
        OSError: the file cannot be read.
    """
    found = {}
    for number, line in enumerate(decode_text(path.read_bytes(), str(path)).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        content = parse_json_object(line, where)
        name, prompt, seed = content.get("name"), content.get("prompt"), content.get("seed")
        if not isinstance(name, str) or not isinstance(prompt, str) or not isinstance(seed, int | None):
            raise ValueError(f"{where} has no name, prompt and seed; evaluate the videos again")
        found[name, prompt, seed] = _numbers(content.get("values"), where)
    return found


def _numbers(values: Any, where: str) -> dict[str, float]:
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} has no values; evaluate the videos again")
    return {
        str(name): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
