"""Custom manifests: CSV, JSON Lines, JSON or Parquet, with a column for the file and one for the caption.

Cells may contain lists for several clips of one file: captions, with lists of start and end times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from videocrafter.data.cells import parse_list, parse_seconds
from videocrafter.data.clip import Kind
from videocrafter.data.clip_table import ClipRow, ClipTable
from videocrafter.data.locations import folder_of, join, join_or_absolute
from videocrafter.data.media_clip import tidy_caption
from videocrafter.data.rows import Row, column_names, find_column, read_rows
from videocrafter.data.source import SourceConfig, check_kind

_FILE_COLUMNS = ("video", "image", "path", "file", "file_name", "filename", "video_path", "image_path")
_CAPTION_COLUMNS = ("caption", "text", "prompt", "description", "top_caption", "name")


@dataclass(frozen=True, kw_only=True)
class ManifestConfig(SourceConfig):
    """A table of files and captions.

    Attributes:
        path: path of the manifest; braces and * match several.
        kind: kind of the files.
        root: folder that paths are relative to and must not leave. None means the manifest's folder; paths may then
            also be absolute, or URLs.
        file, caption: names of the columns; None tries common names.
        start, end: columns with the start and end of the clip, in seconds or as hh:mm:ss.
    """

    path: str
    kind: Kind = "video"
    root: str | None = None
    file: str | None = None
    caption: str | None = None
    start: str | None = None
    end: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kind(self.kind)

    def open(self) -> ClipTable:
        """Read the manifest."""
        columns = column_names(self.path)
        file = find_column(self.path, columns, self.kind, self.file, _FILE_COLUMNS)
        caption = find_column(self.path, columns, "caption", self.caption, _CAPTION_COLUMNS)
        for column, role in ((self.start, "start"), (self.end, "end")):
            if column is not None:
                find_column(self.path, columns, role, column, ())
        if self.root is None:
            place = partial(join_or_absolute, folder_of(self.path))
        else:
            place = partial(join, self.root)
        return ClipTable(
            label=f"manifest:{self.path}",
            kind=self.kind,
            clips=self._clips(file, caption),
            place=place,
            captions_from=f"column {caption!r}",
        )

    def _clips(self, file: str, caption: str) -> Iterator[ClipRow]:
        wanted = [column for column in (file, caption, self.start, self.end) if column is not None]
        for row in read_rows(self.path, wanted):
            yield from clips_of_row(
                str(row.get(file) or ""),
                _cells(row, caption),
                _cells(row, self.start),
                _cells(row, self.end),
            )


def clips_of_row(path: str, captions: Sequence[Any], starts: Sequence[Any], ends: Sequence[Any]) -> Iterator[ClipRow]:
    """Yield the clips of one file, one per entry of the longest list. Missing entries of other lists are empty."""
    count = max(1, len(captions), len(starts), len(ends))
    for index in range(count):
        yield ClipRow(
            key=path if count == 1 else f"{path}#{index}",
            path=path,
            caption=tidy_caption(_at(captions, index)),
            start_s=parse_seconds(_at(starts, index)) or 0.0,
            end_s=parse_seconds(_at(ends, index)),
        )


def _cells(row: Row, column: str | None) -> Sequence[Any]:
    return () if column is None else parse_list(row.get(column))


def _at(cells: Sequence[Any], index: int) -> Any:
    return cells[index] if index < len(cells) else None
