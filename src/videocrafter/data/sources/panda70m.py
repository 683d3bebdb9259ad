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
from videocrafter.data.clip_table import ClipRow, ClipTable, table_clips
from videocrafter.data.locations import join
from videocrafter.data.rows import column_names, find_column
from videocrafter.data.source import SourceConfig
from videocrafter.data.sources.manifest import clips_of_file, entries
from videocrafter.data.tables import TableRow

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
        used = ["url", "timestamp", "caption"]
        for column in used:
            find_column(self.path, columns, "clips", column, ())
        if self.desirable_only:
            used.append("desirable_filtering")
            find_column(self.path, columns, "filter (or set desirable_only=false)", "desirable_filtering", ())
        return ClipTable(
            label=f"panda70m:{self.path}",
            kind="video",
            clips=table_clips(self.path, used, self._clips),
            place=partial(join, self.root),
            captions_from="column 'caption'",
        )

    def _clips(self, row: TableRow) -> Iterator[ClipRow]:
        for column in ("timestamp", "caption", "desirable_filtering"):
            cell = row.cells.get(column)
            if isinstance(cell, str) and cell.lstrip().startswith("[") and parse_list(cell) == (cell,):
                problem = f"{row.where}: {column} is not a valid list, expected one such as ['a', 'b']"
                yield ClipRow(key=row.where, path="", problem=problem)
                return
        captions, verdicts = entries(row, "caption"), entries(row, "desirable_filtering")
        spans = [parse_list(entry) for entry in _spans(row)]
        starts = [span[0] if span else None for span in spans]
        ends = [span[1] if len(span) > 1 else None for span in spans]
        clips = clips_of_file(row.where, _file_name(str(row.cells.get("url") or "")), captions, starts, ends)
        for index, clip in enumerate(clips):
            if not self.desirable_only or verdicts[index : index + 1] in (["desirable"], ("desirable",)):
                yield clip


def _spans(row: TableRow) -> Sequence[Any]:
    """Return pairs of start and end. A single clip may lack the outer list."""
    cells = entries(row, "timestamp")
    single = len(cells) == 2 and all(isinstance(cell, str) and not cell.startswith("[") for cell in cells)
    return [list(cells)] if single else cells


def _file_name(url: str) -> str:
    found = _VIDEO_ID.search(url)
    return f"{found[1]}.mp4" if found else ""
