"""Tar shards as img2dataset and video2dataset write them: `key.jpg` or `key.mp4` with `key.txt` and `key.json`.

Shards are read where they are: headers first, then the members that are needed. Nothing is unpacked, so the
names of members lead nowhere.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from videocrafter.data.clip import BrokenClip, Clip, Kind
from videocrafter.data.errors import BadSampleError, SourceError
from videocrafter.data.file_kinds import SUFFIXES, main_kind
from videocrafter.data.locations import Location, list_files, list_matches, open_url
from videocrafter.data.media_clip import CaptionFile, MediaClip
from videocrafter.data.source import Shard, SourceConfig, check_kind

# So many captions are looked at before the source counts as uncaptioned.
_CAPTIONS_LOOKED_AT = 100
# Long names and records of times take less than a hundredth of it; no header is worth gigabytes of memory.
_LARGEST_HEADER = 1 << 20
# A record is 10 kB by default; tapes have larger ones.
_LONGEST_END = 1 << 20
_TEXT_SUFFIX, _JSON_SUFFIX = ".txt", ".json"


@dataclass(frozen=True, kw_only=True)
class WebDatasetConfig(SourceConfig):
    """Tar shards.

    Attributes:
        path: shards, by a pattern such as `/data/{00000..00099}.tar` or `/data/*.tar`, or a folder of them.
        kind: what is taken from them; None takes what there is most of in the first shard.
        caption: field of the `.json` members that is the caption, such as "top_caption" of LAION-COCO; None takes
            the `.txt` members.
        shards_together: how many shards are shuffled into each other. Their contents are listed at once, so more
            mix better and start later.
    """

    path: str
    kind: Kind | None = None
    caption: str | None = None
    shards_together: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kind(self.kind)
        if self.shards_together < 1:
            raise ValueError(f"shards_together is {self.shards_together}, expected 1 or more")

    def open(self) -> TarShards:
        """Find the shards and look into the first that can be read."""
        folder = not any(part in self.path for part in ("*", "?", "{")) and not self.path.lower().endswith(".tar")
        if folder:
            names = [f"{self.path.rstrip('/')}/{name}" for name in list_files(self.path)]
            urls = [name for name in names if name.lower().endswith(".tar")]
        else:
            urls = list_matches(self.path)
        wrong = [url for url in urls if not url.lower().endswith(".tar")]
        if wrong or not urls:
            given = f"{wrong[0]} is none" if wrong else "there is none"
            raise SourceError(
                f"{self.path} should name uncompressed .tar shards, but {given}; unpack compressed ones"
            )
        return TarShards(urls, self)


class TarShards:
    """Open tar shards; see `WebDatasetConfig`."""

    def __init__(self, urls: list[str], config: WebDatasetConfig) -> None:
        self.label = f"webdataset:{config.path}"
        self.shards_together = config.shards_together
        self._urls, self._caption = urls, config.caption
        self.kind: Kind = config.kind or self._kind_of_first()
        self._look_at_captions()

    @property
    def num_shards(self) -> int:
        """Tar files."""
        return len(self._urls)

    def read_shard(self, index: int) -> Shard:
        """List the samples of one tar file."""
        url = self._urls[index]
        listing = _list_members(url)
        samples: dict[str, dict[str, Location]] = {}
        seen: Counter[str] = Counter()
        for member in listing.members:
            key, suffix = _split(member.member)
            # A name that comes again belongs to another sample of that name.
            seen[member.member] += 1
            key = key if seen[member.member] == 1 else f"{key} ({seen[member.member]})"
            samples.setdefault(key, {})[suffix] = member
        found = [self._clip(f"{url}#{key}", parts) for key, parts in samples.items()]
        odd = [
            BrokenClip(
                key=f"{url}#{name}", reason="unreadable", message=f"{url}#{name} is {what}; it is not followed"
            )
            for name, what in listing.odd
            if name.lower().endswith(SUFFIXES[self.kind])
        ]
        return Shard(clips=[*(clip for clip in found if clip is not None), *odd], problem=listing.problem)

    def _clip(self, key: str, parts: dict[str, Location]) -> Clip | None:
        media = next((parts[suffix] for suffix in SUFFIXES[self.kind] if suffix in parts), None)
        if media is None:
            return None  # such as the record of a download that failed
        suffix = _TEXT_SUFFIX if self._caption is None else _JSON_SUFFIX
        if suffix not in parts:
            return BrokenClip(key=key, reason="no_caption", message=f"{key} has no {suffix}")
        caption = CaptionFile(location=parts[suffix], field=self._caption)
        return MediaClip(key=key, kind=self.kind, media=media, caption=caption)

    def _kind_of_first(self) -> Kind:
        for url in self._urls:
            if kind := main_kind(member.member for member in _list_members(url).members):
                return kind
        raise SourceError(f"{self.label}: no shard holds videos or images that can be read; check the files")

    def _look_at_captions(self) -> None:
        looked_at = 0
        for clip in self._first_clips():
            if _has_caption(clip):
                return
            looked_at += 1
            if looked_at == _CAPTIONS_LOOKED_AT:
                break
        if not looked_at:
            raise SourceError(f"{self.label}: no shard holds a {self.kind} that can be read; check the files")
        given = f"field {self._caption!r} of the .json members" if self._caption else "the .txt member"
        raise SourceError(
            f"{self.label}: {given} is missing or empty for all of the first {looked_at} samples; "
            "name the field that holds the caption, such as caption=top_caption"
        )

    def _first_clips(self) -> Iterator[Clip]:
        for index in range(self.num_shards):
            yield from self.read_shard(index).clips


def _has_caption(clip: Clip) -> bool:
    return isinstance(clip, MediaClip) and isinstance(clip.caption, CaptionFile) and clip.caption.is_there()


@dataclass(kw_only=True)
class _Listing:
    """What is in a tar, in its order.

    Attributes:
        members: its regular files.
        odd: names of links, devices and the like, and what they are.
        problem: what is wrong with it.
    """

    members: list[Location] = field(default_factory=list)
    odd: list[tuple[str, str]] = field(default_factory=list)
    problem: str | None = None


def _list_members(url: str) -> _Listing:
    """Read the headers of a tar up to its end, or to where it is damaged."""
    found = _Listing()
    try:
        with open_url(url) as file, tarfile.open(fileobj=_Headers(file), mode="r:") as archive:  # type: ignore[call-overload]
            behind = -1
            while (member := archive.next()) is not None:
                if archive.offset <= behind:
                    raise tarfile.ReadError("a header leads back")
                behind = archive.offset
                if what := _oddity(member):
                    found.odd.append((member.name, what))
                else:
                    place = Location(url=url, offset=member.offset_data, size=member.size, member=member.name)
                    found.members.append(place)
            file.seek(archive.offset)
            end = file.read(_LONGEST_END + 1)
    except BadSampleError as error:
        found.problem = str(error)
        return found
    except (tarfile.TarError, OSError, EOFError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        found.problem = f"{url} is damaged or cut off ({error})"
        return found
    # The reader takes anything that is no header for the end. A real end is marked by zeros, which fill up the last
    # record and no more; where a download left a hole, and between archives that were joined, there are zeros too.
    if not tarfile.BLOCKSIZE <= len(end) <= _LONGEST_END or end.count(0) < len(end):
        found.problem = f"{url} is damaged or cut off; samples before the damage are used"
    elif not found.members and not found.odd:
        found.problem = f"{url} is empty"
    return found


class _Headers:
    """A tar as its reader sees it, who asks for as much as a header says that the next one is long."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.tell, self.seek = file, file.tell, file.seek

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


def _oddity(member: tarfile.TarInfo) -> str | None:
    """What a member is that is no file whose bytes stand behind its header; folders are of no account."""
    if member.issym() or member.islnk():
        return "a link"
    if member.issparse():
        return "a file with holes"
    if member.isreg():
        return None if min(member.size, member.offset_data) >= 0 else "a file of a negative size"
    return "a folder" if member.isdir() else "no file"


def _split(name: str) -> tuple[str, str]:
    """Key and suffix: all behind the first dot of the file name, as webdataset has it."""
    folder, file = posixpath.split(name)
    stem, dot, suffix = file.partition(".")
    return posixpath.join(folder, stem), f"{dot}{suffix}".lower()
