"""A table of millions of clips, stored as text and offsets: about as large as their captions and paths."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from videocrafter.data.clip import BrokenClip, Clip, Kind
from videocrafter.data.errors import BadSampleError, SourceError
from videocrafter.data.locations import Location
from videocrafter.data.media_clip import CaptionFile, MediaClip
from videocrafter.data.rows import read_rows
from videocrafter.data.source import ClipShard
from videocrafter.data.tables import TableRow


class ClipRow(NamedTuple):
    """One clip of a table.

    Attributes:
        key: name of the clip.
        path: path of its file as written in the source.
        caption: the caption; empty if it is missing or in `caption_file`.
        caption_file: path of a text file with the caption, or empty.
        start_s, end_s: start and end of the clip within the file, in seconds.
        problem: why the row must not be used, in one line; empty for a valid row.
    """

    key: str
    path: str
    caption: str = ""
    caption_file: str = ""
    start_s: float = 0.0
    end_s: float | None = None
    problem: str = ""


def table_clips(
    pattern: str, columns: Sequence[str], clips_of_row: Callable[[TableRow], Iterable[ClipRow]]
) -> Iterator[ClipRow]:
    """Yield the clips of all rows of a manifest. An invalid row is one clip, with its problem.

    Args:
        pattern, columns: as for `read_rows`.
        clips_of_row: returns the clips of a valid row.

    Raises:
        SourceError: as for `read_rows`.
    """
    for row in read_rows(pattern, columns):
        if row.problem:
            yield ClipRow(key=row.where, path="", problem=row.problem)
        else:
            yield from clips_of_row(row)


class ClipTable:
    """A source whose clips are all known in advance. Every clip is a shard.

    Args:
        label: name in messages.
        kind: kind of the clips.
        clips: all clips.
        place: resolves a path of the table; raises `BadSampleError` for one that must not be read.
        captions_from: origin of the captions for the error if all are empty, such as "column 'name'".

    Raises:
        SourceError: there are no clips, none is valid, or none has a caption.
    """

    shards_together = 1

    def __init__(
        self,
        *,
        label: str,
        kind: Kind,
        clips: Iterable[ClipRow],
        place: Callable[[str], str],
        captions_from: str,
    ) -> None:
        self.label, self.kind, self._place = label, kind, place
        self._text = bytearray()
        self._ends = array("Q")
        captioned, num_valid = False, 0
        for clip in clips:
            captioned |= bool(clip.caption or clip.caption_file)
            num_valid += not clip.problem
            # File names need not be valid UTF-8; surrogates preserve them.
            text = json.dumps(list(clip), ensure_ascii=False, separators=(",", ":"))
            self._text += text.encode("utf-8", "surrogatepass")
            self._ends.append(len(self._text))
        if not self._ends:
            raise SourceError(f"{label} contains no clips, expected at least one")
        # Invalid rows are counted as they are drawn, and the rules for bad samples decide.
        if num_valid and not captioned:
            raise SourceError(f"{label}: {captions_from} is empty for all {num_valid} clips; add captions")

    @property
    def num_shards(self) -> int:
        """Number of clips."""
        return len(self._ends)

    def read_shard(self, index: int) -> ClipShard:
        """Return a shard that contains clip `index` only."""
        return ClipShard(clips=(self[index],))

    def __getitem__(self, index: int) -> Clip:
        if not 0 <= index < len(self._ends):
            raise IndexError(index)
        start = self._ends[index - 1] if index else 0
        return self._clip(ClipRow(*json.loads(self._text[start : self._ends[index]])))

    def _clip(self, row: ClipRow) -> Clip:
        if row.problem:
            return BrokenClip(key=row.key, reason="bad_row", message=row.problem)
        try:
            media = Location(url=self._place(row.path))
            if row.caption_file:
                caption: str | CaptionFile = CaptionFile(location=Location(url=self._place(row.caption_file)))
            else:
                caption = row.caption
        except BadSampleError as error:
            return BrokenClip(key=row.key, reason=error.reason, message=str(error))
        return MediaClip(
            key=row.key, kind=self.kind, media=media, caption=caption, start_s=row.start_s, end_s=row.end_s
        )
