"""OpenVid-1M: a CSV with `video, caption` and scores, and a folder of the extracted videos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from videocrafter.data.cells import parse_number
from videocrafter.data.clip_table import ClipRow, ClipTable, table_clips
from videocrafter.data.locations import join
from videocrafter.data.media_clip import tidy_caption
from videocrafter.data.rows import column_names, find_column
from videocrafter.data.source import SourceConfig
from videocrafter.data.tables import TableRow

_AESTHETIC, _MOTION = "aesthetic score", "motion score"


@dataclass(frozen=True, kw_only=True)
class OpenVidConfig(SourceConfig):
    """OpenVid-1M or OpenVidHD.

    Attributes:
        path: path of the CSV.
        root: folder of the videos.
        min_aesthetic, min_motion: smallest scores; clips without a score are dropped, too. None keeps all.
    """

    path: str
    root: str
    min_aesthetic: float | None = None
    min_motion: float | None = None

    def open(self) -> ClipTable:
        """Read the CSV."""
        columns = column_names(self.path)
        limits = {
            column: limit
            for column, limit in ((_AESTHETIC, self.min_aesthetic), (_MOTION, self.min_motion))
            if limit is not None
        }
        for column in ("video", "caption", *limits):
            find_column(self.path, columns, "clips", column, ())
        return ClipTable(
            label=f"openvid:{self.path}",
            kind="video",
            clips=table_clips(self.path, ("video", "caption", *limits), partial(_clips, limits)),
            place=partial(join, self.root),
            captions_from="column 'caption'",
        )


def _clips(limits: Mapping[str, float], row: TableRow) -> Iterator[ClipRow]:
    scores = {column: parse_number(row.cells.get(column)) for column in limits}
    if all(score is not None and score >= limits[column] for column, score in scores.items()):
        video = str(row.cells.get("video") or "")
        yield ClipRow(key=video or "?", path=video, caption=tidy_caption(row.cells.get("caption")))
