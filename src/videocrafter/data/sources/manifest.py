"""Custom manifests: CSV, JSON Lines, JSON or Parquet, with a column for the file and one for the caption.

Cells may contain lists for several clips of one file: captions, with lists of start and end times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from videocrafter.data.cells import is_blank, parse_list, parse_seconds
from videocrafter.data.clip import Kind
from videocrafter.data.clip_table import ClipRow, ClipTable, table_clips
from videocrafter.data.locations import expand_braces, expand_home, folder_of, join, join_or_absolute
from videocrafter.data.media_clip import tidy_caption
from videocrafter.data.rows import column_names, find_column
from videocrafter.data.source import SourceConfig, check_kind
from videocrafter.data.tables import TableRow

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
            folders = {folder_of(expand_home(path)) for path in expand_braces(self.path)}
            place = partial(join_or_absolute, folders.pop() if len(folders) == 1 else folder_of(self.path))
        else:
            place = partial(join, self.root)
        return ClipTable(
            label=f"manifest:{self.path}",
            kind=self.kind,
            clips=table_clips(
                self.path,
                [column for column in (file, caption, self.start, self.end) if column is not None],
                partial(self._clips, file, caption),
            ),
            place=place,
            captions_from=f"column {caption!r}",
        )

    def _clips(self, file: str, caption: str, row: TableRow) -> Iterator[ClipRow]:
        captions, starts, ends = (entries(row, column) for column in (caption, self.start, self.end))
        return clips_of_file(row.where, str(row.cells.get(file) or ""), captions, starts, ends)


def clips_of_file(
    where: str, path: str, captions: Sequence[Any], starts: Sequence[Any], ends: Sequence[Any]
) -> Iterator[ClipRow]:
    """Yield the clips of one file, one per entry of the longest list.

    A list of times that is not empty must have a time, or an empty entry, for each clip; a clip without one, or with
    an invalid one, is a problem of its own.

    Args:
        where: place of the row in messages.
    """
    count = max(1, len(captions), len(starts), len(ends))
    for index in range(count):
        key, problem = path if count == 1 else f"{path}#{index}", ""
        times: list[float | None] = []
        for role, cells in (("start", starts), ("end", ends)):
            cell = cells[index] if index < len(cells) else None
            times.append(parse_seconds(cell))
            if cells and index >= len(cells):
                problem = f"{where}: there are {count} clips, but only {len(cells)} entries for their {role}"
            elif times[-1] is None and not is_blank(cell):
                problem = f"{where}: {role} is {cell!r}, expected seconds or hh:mm:ss, at least 0"
        yield ClipRow(
            key=key,
            path=path,
            caption=tidy_caption(captions[index] if index < len(captions) else None),
            start_s=times[0] or 0.0,
            end_s=times[1],
            problem=problem,
        )


def entries(row: TableRow, column: str | None) -> Sequence[Any]:
    """Return the entries of a row's cell; none if the cell is missing or empty."""
    cell = None if column is None else row.cells.get(column)
    return () if is_blank(cell) else parse_list(cell)
