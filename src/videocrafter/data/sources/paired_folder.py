"""Folders of pairs such as `a.mp4` and `a.txt`, or `a.jpg` and `a.txt`, including subfolders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from videocrafter.data.clip import Kind
from videocrafter.data.clip_table import ClipRow, ClipTable
from videocrafter.data.errors import SourceError
from videocrafter.data.file_kinds import SUFFIXES, main_kind
from videocrafter.data.locations import Location, join, list_files
from videocrafter.data.media_clip import CaptionFile
from videocrafter.data.source import SourceConfig, check_kind

# Caption files are read with their clips. Opening the source checks only this many for a caption.
_CAPTIONS_CHECKED = 100


@dataclass(frozen=True, kw_only=True)
class PairedFolderConfig(SourceConfig):
    """Videos or images, each with a text file of the same name that contains its caption.

    img2dataset and video2dataset (with `output_format=files`) and Panda-70M's downloader write this format.

    Attributes:
        path: the folder.
        kind: kind to use; None uses the more frequent one.
        caption_suffix: suffix of the caption files.
    """

    path: str
    kind: Kind | None = None
    caption_suffix: str = ".txt"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kind(self.kind)
        if not self.caption_suffix.startswith("."):
            raise ValueError(f"caption_suffix is {self.caption_suffix!r}, expected one such as '.txt'")

    def open(self) -> ClipTable:
        """List the folder."""
        names = list_files(self.path)
        kind = self.kind or main_kind(names)
        if kind is None:
            raise SourceError(f"{self.path} contains no videos or images, expected pairs such as a.mp4 and a.txt")
        wanted = [name for name in names if name.lower().endswith(SUFFIXES[kind])]
        captions = self._captions_by_stem(names)
        stems = {name: str(PurePosixPath(name).with_suffix("")) for name in wanted}
        found = {name: captions[stem] for name, stem in stems.items() if stem in captions}
        self._check_captions(list(found.values()), len(wanted), kind)
        return ClipTable(
            label=f"folder:{self.path}",
            kind=kind,
            clips=self._clips(wanted, found),
            place=partial(join, self.path),
            captions_from=f"the {self.caption_suffix} file of each {kind}",
        )

    def _clips(self, names: list[str], captions: dict[str, str]) -> Iterator[ClipRow]:
        for name in names:
            yield ClipRow(key=name, path=name, caption_file=captions.get(name, ""))

    def _captions_by_stem(self, names: list[str]) -> dict[str, str]:
        """Return the caption files by their path without the suffix. A suffix in another case counts, too."""
        found: dict[str, str] = {}
        for name in names:
            stem = name[: -len(self.caption_suffix)]
            is_exact = name.endswith(self.caption_suffix)
            if is_exact or (name.lower().endswith(self.caption_suffix.lower()) and stem not in found):
                found[stem] = name
        return found

    def _check_captions(self, captions: list[str], num_clips: int, kind: Kind) -> None:
        if not num_clips:
            raise SourceError(f"{self.path} contains no {kind}s; check the folder and the kind")
        problem: str | None = None
        for name in captions[:_CAPTIONS_CHECKED]:
            found = CaptionFile(location=Location(url=join(self.path, name))).problem()
            if found is None:
                return
            problem = problem or found
        which = f"the first {_CAPTIONS_CHECKED} are" if len(captions) > _CAPTIONS_CHECKED else "all are"
        given = f"{which} empty or unreadable: {problem}" if captions else "there is none"
        raise SourceError(
            f"{self.path} needs a {self.caption_suffix} file with a caption for each {kind}, but {given}"
        )
