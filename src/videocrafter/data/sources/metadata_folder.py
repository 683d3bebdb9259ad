"""Folders in the format of Hugging Face's VideoFolder and ImageFolder.

The folder contains `metadata.csv`, `.jsonl` or `.parquet`. Each row has a `file_name`, a path below the folder, and a
caption.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from videocrafter.data.clip import Kind
from videocrafter.data.clip_table import ClipRow, ClipTable, table_clips
from videocrafter.data.errors import SourceError
from videocrafter.data.file_kinds import main_kind
from videocrafter.data.locations import join, list_files
from videocrafter.data.media_clip import tidy_caption
from videocrafter.data.rows import column_names, find_column, read_rows
from videocrafter.data.source import SourceConfig, check_kind
from videocrafter.data.tables import TableRow

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_CAPTION_COLUMNS = ("caption", "text", "prompt", "description")


@dataclass(frozen=True, kw_only=True)
class MetadataFolderConfig(SourceConfig):
    """A folder with one metadata file that contains the captions.

    Attributes:
        path: the folder; contains exactly one metadata file.
        kind: kind of the files; None derives it from their names.
        caption: name of the caption column; None tries common names.
    """

    path: str
    kind: Kind | None = None
    caption: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kind(self.kind)

    def open(self) -> ClipTable:
        """Read the metadata file."""
        names = list_files(self.path)
        found = [name for name in METADATA_NAMES if name in names]
        if len(found) != 1:
            given = " and ".join(found) or "none"
            raise SourceError(f"{self.path} contains {given}, expected exactly one of {', '.join(METADATA_NAMES)}")
        manifest = join(self.path, found[0])
        columns = column_names(manifest)
        file = find_column(manifest, columns, "file name", None, ("file_name", "video_file_name", "image_file_name"))
        caption = find_column(manifest, columns, "caption", self.caption, _CAPTION_COLUMNS)
        kind = self.kind or main_kind(str(row.cells.get(file) or "") for row in read_rows(manifest, (file,)))
        if kind is None:
            raise SourceError(
                f"{manifest} lists no videos or images in column {file!r}, expected paths with suffixes"
            )
        return ClipTable(
            label=f"metadata:{self.path}",
            kind=kind,
            clips=table_clips(manifest, (file, caption), partial(_clips, file, caption)),
            place=partial(join, self.path),
            captions_from=f"column {caption!r} of {found[0]}",
        )


def _clips(file: str, caption: str, row: TableRow) -> Iterator[ClipRow]:
    name = str(row.cells.get(file) or "")
    yield ClipRow(key=name or "?", path=name, caption=tidy_caption(row.cells.get(caption)))
