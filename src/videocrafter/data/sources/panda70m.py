"""Panda-70M: a CSV with one row per source video, whose cells are lists with one entry per clip.

    url, timestamp, caption, matching_score, desirable_filtering, shot_boundary_detection

Each clip is a part of a source video, which is named by its YouTube id: `{root}/{id}.mp4`. For clips that are already
cut and stored with their captions, use `paired_folder` instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from videocrafter.data.cells import parse_list
from videocrafter.data.clip_table import ClipRow, ClipTable
from videocrafter.data.locations import join
from videocrafter.data.rows import Row, column_names, find_column, read_rows
from videocrafter.data.source import SourceConfig
from videocrafter.data.sources.manifest import clips_of_row

_VIDEO_ID = re.compile(r"(?:[?&]v=|youtu\.be/|/shorts/|/embed/)([\w-]{6,})")


@dataclass(frozen=True, kw_only=True)
class Panda70MConfig(SourceConfig):
    """Panda-70M with downloaded source videos.

    Attributes:
        path: path of the CSV; braces and * match several.
        root: folder of the videos.
        desirable_only: drop clips that the data set marks as undesirable (a fifth).
    """

    path: str
    root: str
    desirable_only: bool = True

    def open(self) -> ClipTable:
        """Read the CSV."""
        columns = column_names(self.path)
        for column in ("url", "timestamp", "caption"):
            find_column(self.path, columns, "clips", column, ())
        if self.desirable_only:
            find_column(self.path, columns, "filter (or set desirable_only=false)", "desirable_filtering", ())
        return ClipTable(
            label=f"panda70m:{self.path}",
            kind="video",
            clips=self._clips(),
            place=partial(join, self.root),
            captions_from="column 'caption'",
        )

    def _clips(self) -> Iterator[ClipRow]:
        for row in read_rows(self.path, ("url", "timestamp", "caption", "desirable_filtering")):
            parts = [entry if isinstance(entry, list | tuple) else parse_list(entry) for entry in _spans(row)]
            clips = clips_of_row(
                _file_name(str(row.get("url") or "")),
                parse_list(row.get("caption")),
                [part[0] if part else None for part in parts],
                [part[1] if len(part) > 1 else None for part in parts],
            )
            verdicts = parse_list(row.get("desirable_filtering"))
            for index, clip in enumerate(clips):
                if not self.desirable_only or verdicts[index : index + 1] in (["desirable"], ("desirable",)):
                    yield clip


def _spans(row: Row) -> Sequence[Any]:
    """Return pairs of start and end. A single clip may lack the outer list."""
    cells = parse_list(row.get("timestamp"))
    single = len(cells) == 2 and all(isinstance(cell, str) and not cell.startswith("[") for cell in cells)
    return [list(cells)] if single else cells


def _file_name(url: str) -> str:
    found = _VIDEO_ID.search(url)
    return f"{found[1]}.mp4" if found else ""
