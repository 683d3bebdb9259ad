"""Millions of clips, held as text and offsets rather than as objects: about as large as their captions and paths."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable
from typing import NamedTuple

from videocrafter.data.clip import BrokenClip, Clip, Kind
from videocrafter.data.errors import BadSampleError, SourceError
from videocrafter.data.locations import Location
from videocrafter.data.media_clip import CaptionFile, MediaClip
from videocrafter.data.source import Shard


class ClipRow(NamedTuple):
    """A clip of a table.

    Attributes:
        key: its name.
        path: its file, as the source writes it.
        caption: what it shows; empty if that is missing or in `caption_file`.
        caption_file: path of a text file with the caption.
        start_s, end_s: the part of the file that counts.
    """

    key: str
    path: str
    caption: str = ""
    caption_file: str = ""
    start_s: float = 0.0
    end_s: float | None = None


class ClipTable:
    """A source that knows all its clips beforehand; every clip is a shard of its own.

    Args:
        label: what messages call it.
        kind: what it holds.
        clips: all of them.
        place: where a path of the table is; raises `BadSampleError` for one that must not be read.
        captions_from: what has to be mended if there is no caption at all, such as "column 'name'".

    Raises:
        SourceError: there are no clips, or none has a caption.
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
        captioned = False
        for clip in clips:
            captioned |= bool(clip.caption or clip.caption_file)
            # Names of files may be no UTF-8; what Python makes of them comes back as it was.
            text = json.dumps(list(clip), ensure_ascii=False, separators=(",", ":"))
            self._text += text.encode("utf-8", "surrogatepass")
            self._ends.append(len(self._text))
        if not self._ends:
            raise SourceError(f"{label} holds no clips; give one with at least one")
        if not captioned:
            raise SourceError(f"{label}: {captions_from} is empty for all {len(self._ends)} clips; give captions")

    @property
    def num_shards(self) -> int:
        """Clips."""
        return len(self._ends)

    def read_shard(self, index: int) -> Shard:
        """Clip `index`, alone."""
        return Shard(clips=(self[index],))

    def __getitem__(self, index: int) -> Clip:
        if not 0 <= index < len(self._ends):
            raise IndexError(index)
        start = self._ends[index - 1] if index else 0
        return self._clip(ClipRow(*json.loads(self._text[start : self._ends[index]])))

    def _clip(self, row: ClipRow) -> Clip:
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
