"""Videos of the gallery as a grid of prompts × settings, for the page of `evaluation.comparison`.

A column is a set of videos with equal settings, a row a prompt with its seed and its picture. Pictures with the
frames are made when the page shows them, so a grid needs no decoding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from videocrafter.evaluation.comparison.films import (
    LAYOUT_VERSION,
    Film,
    make_film,
    shown_shape,
    shrink,
    tile_layout,
)
from videocrafter.evaluation.comparison.matching import Row, match_videos
from videocrafter.evaluation.comparison.page import film_data
from videocrafter.evaluation.comparison.settings import setting_table, settings_of
from videocrafter.evaluation.video_set import VideoEntry, VideoSet
from videocrafter.media.video_reader import open_reader
from videocrafter.web.store.videos import Video

MOST_VIDEOS = 64
"""Videos of one page."""
_SIZE = 512
_MOST_FRAMES = 128
_INPUTS = ("image", "image_end", "video", "continued")
_LONGEST_NAME = 60


FILM_FORM = f"film{LAYOUT_VERSION}-{_SIZE}-{_MOST_FRAMES}"
"""Differs for versions that make other pictures of the same video."""


def film_of(path: Path) -> Film:
    """Return the pictures that the page shows of a video. Raises MediaError for a damaged one."""
    with open_reader(path, strict=False) as reader:
        shown = shown_shape(*reader.size, _SIZE)
        return make_film(shrink(islice(reader.frames(), _MOST_FRAMES), *shown), reader.fps, reader.size)


def comparison_data(videos: Sequence[Video]) -> dict[str, Any]:
    """Return the data of the page: columns, rows, settings that differ, addresses of pictures, and empty cells.

    Videos with the same settings form one column. If all have the same settings, each is a column of its own.
    """
    by_id = {video.id: video for video in videos}
    columns = _columns([_entry(video) for video in by_id.values()])
    if len(columns) > 1:
        # A repeated video would begin a row of its own, whose other cells are empty.
        columns = {name: _distinct(entries, by_id) for name, entries in columns.items()}
    rows = match_videos({name: VideoSet(root=Path(), entries=tuple(one)) for name, one in columns.items()})
    if len(columns) == 1 and len(by_id) > 1:
        columns = _one_each([by_id[entry.name] for entry in next(iter(columns.values()))])
        rows = [Row(prompt="All settings are equal", seed=None, image=None, videos=_first(columns))]
    shown: list[dict[str, Any]] = [
        {
            "prompt": row.prompt or "(no prompt)",
            "seed": row.seed,
            "image": None,
            "cells": [_cell(row.videos.get(name), by_id) for name in columns],
        }
        for row in rows
    ]
    pictures = [name for row in shown for cell in row["cells"] if cell is not None for name in cell["pictures"]]
    return {
        "title": "Comparison",
        "columns": list(columns),
        "settings": setting_table(columns),
        "rows": shown,
        "files": {name: f"/api/v1/videos/{name}" for name in pictures},
        "empty": len(rows) * len(columns) - sum(len(row.videos) for row in rows),
        "missing": _missing_requests(rows, columns, by_id),
    }


def _missing_requests(
    rows: Sequence[Row], columns: Mapping[str, Sequence[VideoEntry]], by_id: Mapping[str, Video]
) -> list[dict[str, Any]]:
    """Return the requests of the empty cells; none if one page could not show them all."""
    if len(rows) * len(columns) > MOST_VIDEOS:
        return []
    return [
        _missing_request(by_id[columns[name][0].name], by_id[next(iter(row.videos.values())).name])
        for row in rows
        for name in columns
        if name not in row.videos
    ]


def _entry(video: Video) -> VideoEntry:
    image = video.recording.get("image")
    return VideoEntry(
        path=Path(),
        prompt=video.prompt,
        seed=video.recording.get("seed"),
        name=video.id,
        image=Path(str(image)) if image else None,
        metadata=video.recording,
    )


def _columns(entries: Sequence[VideoEntry]) -> dict[str, list[VideoEntry]]:
    """Group videos by their settings; a column's name is made of as many of those that differ as tell it apart."""
    groups: dict[tuple[tuple[str, str], ...], list[VideoEntry]] = {}
    for entry in entries:
        groups.setdefault(tuple(sorted(settings_of([entry]).items())), []).append(entry)
    table = setting_table({str(index): group for index, group in enumerate(groups.values())})
    telling = _telling(table)
    named: dict[str, list[VideoEntry]] = {}
    for index, group in enumerate(groups.values()):
        parts = [f"{key} {table[key][str(index)]}" for key in telling if table[key][str(index)]]
        name = ", ".join(parts)[:_LONGEST_NAME] or f"settings {index + 1}"
        named[name if name not in named else f"{name} ({index + 1})"] = group
    return named


def _telling(table: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the first settings of a table that tell its columns apart; the hash only if nothing else does."""
    keys: list[str] = []
    groups = 1
    for key in sorted(table, key=lambda key: key == "model_hash"):
        found = len({tuple(table[one][column] for one in (*keys, key)) for column in table[key]})
        if found > groups:
            keys.append(key)
            groups = found
    return keys


def _distinct(entries: Sequence[VideoEntry], by_id: Mapping[str, Video]) -> list[VideoEntry]:
    """Return the first entry of each prompt, seed and input."""
    first: dict[tuple[Any, ...], VideoEntry] = {}
    for entry in entries:
        inputs = (by_id[entry.name].request.get(name) for name in _INPUTS)
        first.setdefault((entry.prompt, entry.seed, *inputs), entry)
    return list(first.values())


def _one_each(videos: Sequence[Video]) -> dict[str, list[VideoEntry]]:
    names: dict[str, list[VideoEntry]] = {}
    for index, video in enumerate(videos):
        name = f"{video.prompt[:_LONGEST_NAME]} · seed {video.recording.get('seed')}"
        names[name if name not in names else f"{name} ({index + 1})"] = [_entry(video)]
    return names


def _first(columns: Mapping[str, Sequence[VideoEntry]]) -> dict[str, VideoEntry]:
    return {name: entries[0] for name, entries in columns.items()}


def _cell(entry: VideoEntry | None, by_id: Mapping[str, Video]) -> dict[str, Any] | None:
    if entry is None:
        return None
    video = by_id[entry.name]
    num_frames = min(video.num_frames, _MOST_FRAMES)
    tile = shown_shape(video.height, video.width, _SIZE)
    count = -(-num_frames // tile_layout(num_frames, *tile)[0])
    names = [f"{video.id}/film/{number}.webp" for number in range(count)]
    shape = (video.height, video.width)
    return {
        "name": video.id,
        "seed": entry.seed,
        "metrics": {},
        **film_data(names, num_frames, tile, video.playback_fps, shape),
    }


def _missing_request(column: Video, row: Video) -> dict[str, Any]:
    """Return the request of an empty cell: the settings of its column with prompt, seed and inputs of its row."""
    request = {name: value for name, value in column.request.items() if name not in _INPUTS}
    inputs = {name: row.request[name] for name in _INPUTS if name in row.request}
    return {**request, **inputs, "prompt": row.prompt, "seed": row.request.get("seed"), "num_videos": 1}
