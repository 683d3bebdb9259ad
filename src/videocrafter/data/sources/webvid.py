"""WebVid: a CSV with `videoid, page_dir, name`, and videos at `{root}/videos/{page_dir}/{videoid}.mp4`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from videocrafter.data.clip_table import ClipRow, ClipTable, table_clips
from videocrafter.data.locations import join
from videocrafter.data.media_clip import tidy_caption
from videocrafter.data.rows import column_names, find_column
from videocrafter.data.source import SourceConfig
from videocrafter.data.tables import TableRow


@dataclass(frozen=True, kw_only=True)
class WebVidConfig(SourceConfig):
    """WebVid-2M or WebVid-10M, or data in the same layout.

    Attributes:
        path: path of the CSV; braces and * match several.
        root: folder that contains `videos/`.
    """

    path: str
    root: str

    def open(self) -> ClipTable:
        """Read the CSV. The column `name` is the caption."""
        columns = column_names(self.path)
        for column, role in (("videoid", "file name"), ("page_dir", "folder"), ("name", "caption")):
            find_column(self.path, columns, role, column, ())
        return ClipTable(
            label=f"webvid:{self.path}",
            kind="video",
            clips=table_clips(self.path, ("videoid", "page_dir", "name"), _clips),
            place=partial(join, self.root),
            captions_from="column 'name'",
        )


def _clips(row: TableRow) -> Iterator[ClipRow]:
    video, folder = str(row.cells.get("videoid") or ""), str(row.cells.get("page_dir") or "")
    path = f"videos/{folder}/{video}.mp4" if video else ""
    yield ClipRow(key=video or "?", path=path, caption=tidy_caption(row.cells.get("name")))
