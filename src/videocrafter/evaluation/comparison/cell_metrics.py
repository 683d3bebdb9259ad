"""Metrics of single videos, from the report of an evaluation next to them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videocrafter.data.text_files import decode_text
from videocrafter.evaluation.results import MEASUREMENTS, REPORT
from videocrafter.media.json_file import parse_json_object, read_json_object


def find_metrics(folder: Path) -> Path | None:
    """Return the file with the metrics of a folder's videos: in the folder or in its parent; None if there is none.

    The report next to it must be about this folder. A parent may hold the report of other videos.
    """
    here = folder.absolute()
    places = [place for place in (here, here.parent) if (place / MEASUREMENTS).is_file() and _measured(place, here)]
    return places[0] / MEASUREMENTS if places else None


def _measured(place: Path, folder: Path) -> bool:
    """Whether the report in `place` is about the videos of a folder."""
    try:
        videos = read_json_object(place / REPORT).get("videos")
    except ValueError:
        return False
    named = videos.get("folder") if isinstance(videos, Mapping) else None
    return isinstance(named, str) and (place / named).resolve() == folder.resolve()


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
