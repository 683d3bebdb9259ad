"""Tar shards in the format of img2dataset and video2dataset: `key.jpg` or `key.mp4`, with `key.txt` and `key.json`.

Shards are read in place: headers first, then the members that are needed. Nothing is extracted, so member names
cannot lead out of a folder.
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
from videocrafter.data.source import ClipShard, SourceConfig, check_kind

# Number of captions to check before the source counts as uncaptioned.
_CAPTIONS_CHECKED = 100
# A hundred times what long names and timestamp records need. A corrupt header may claim gigabytes.
_LARGEST_HEADER = 1 << 20
# Tar records are 10 kB by default, but may be larger.
_LONGEST_END = 1 << 20
_TEXT_SUFFIX, _JSON_SUFFIX = ".txt", ".json"


@dataclass(frozen=True, kw_only=True)
class WebDatasetConfig(SourceConfig):
    """Tar shards.

    Attributes:
        path: pattern such as `/data/{00000..00099}.tar` or `/data/*.tar`, or a folder of shards.
        kind: kind to use; None uses the more frequent one of the first shard.
        caption: field of the `.json` members to use as the caption, such as "top_caption" of LAION-COCO; None uses
            the `.txt` members.
        shards_together: number of shards to shuffle together. They are listed at once, so a larger number mixes
            better but starts later.
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
        """Find the shards and inspect the first readable one."""
        folder = not any(part in self.path for part in ("*", "?", "{")) and not self.path.lower().endswith(".tar")
        if folder:
            names = [f"{self.path.rstrip('/')}/{name}" for name in list_files(self.path)]
            urls = [name for name in names if name.lower().endswith(".tar")]
        else:
            urls = list_matches(self.path)
        wrong = [url for url in urls if not url.lower().endswith(".tar")]
        if wrong or not urls:
            given = f"matches {wrong[0]}" if wrong else "contains no .tar file"
            raise SourceError(f"{self.path} {given}, expected uncompressed .tar shards; decompress compressed ones")
        return TarShards(urls, self)


class TarShards:
    """Open tar shards; see `WebDatasetConfig`."""

    def __init__(self, urls: list[str], config: WebDatasetConfig) -> None:
        self.label = f"webdataset:{config.path}"
        self.shards_together = config.shards_together
        self._urls, self._caption = urls, config.caption
        self.kind: Kind = config.kind or self._kind_of_first()
        self._check_captions()

    @property
    def num_shards(self) -> int:
        """Number of tar files."""
        return len(self._urls)

    def read_shard(self, index: int) -> ClipShard:
        """List the samples of one tar file."""
        url = self._urls[index]
        listing = _list_members(url)
        samples: dict[str, dict[str, Location]] = {}
        seen: Counter[str] = Counter()
        for member in listing.members:
            key, suffix = _split(member.member)
            # A repeated name belongs to another sample with the same key.
            seen[member.member] += 1
            key = key if seen[member.member] == 1 else f"{key} ({seen[member.member]})"
            samples.setdefault(key, {})[suffix] = member
        found = [self._clip(f"{url}#{key}", parts) for key, parts in samples.items()]
        odd = [
            BrokenClip(
                key=f"{url}#{name}", reason="unreadable", message=f"{url}#{name} is {what}, expected a regular file"
            )
            for name, what in listing.odd
            if name.lower().endswith(SUFFIXES[self.kind])
        ]
        return ClipShard(clips=[*(clip for clip in found if clip is not None), *odd], problem=listing.problem)

    def _clip(self, key: str, parts: dict[str, Location]) -> Clip | None:
        media = next((parts[suffix] for suffix in SUFFIXES[self.kind] if suffix in parts), None)
        if media is None:
            return None  # such as the record of a failed download
        suffix = _TEXT_SUFFIX if self._caption is None else _JSON_SUFFIX
        if suffix not in parts:
            return BrokenClip(key=key, reason="no_caption", message=f"{key} has no {suffix} member")
        caption = CaptionFile(location=parts[suffix], field=self._caption)
        return MediaClip(key=key, kind=self.kind, media=media, caption=caption)

    def _kind_of_first(self) -> Kind:
        for url in self._urls:
            if kind := main_kind(member.member for member in _list_members(url).members):
                return kind
        raise SourceError(f"{self.label}: no shard contains readable videos or images; check the files")

    def _check_captions(self) -> None:
        num_checked = 0
        for clip in self._first_clips():
            if _has_caption(clip):
                return
            num_checked += 1
            if num_checked == _CAPTIONS_CHECKED:
                break
        if not num_checked:
            raise SourceError(f"{self.label}: no shard contains a readable {self.kind}; check the files")
        given = f"field {self._caption!r} of the .json members" if self._caption else "the .txt member"
        raise SourceError(
            f"{self.label}: {given} is missing or empty for all of the first {num_checked} samples; "
            "name the field that contains the caption, such as caption=top_caption"
        )

    def _first_clips(self) -> Iterator[Clip]:
        for index in range(self.num_shards):
            yield from self.read_shard(index).clips


def _has_caption(clip: Clip) -> bool:
    return isinstance(clip, MediaClip) and isinstance(clip.caption, CaptionFile) and clip.caption.is_present()


@dataclass(kw_only=True)
class _Listing:
    """Contents of a tar file, in order.

    Attributes:
        members: regular files.
        odd: names and descriptions of links, devices and the like.
        problem: one line on damage, or None.
    """

    members: list[Location] = field(default_factory=list)
    odd: list[tuple[str, str]] = field(default_factory=list)
    problem: str | None = None


def _list_members(url: str) -> _Listing:
    """Read the headers of a tar file up to its end or to the first damage."""
    found = _Listing()
    try:
        with open_url(url) as file, tarfile.open(fileobj=_Headers(file), mode="r:") as archive:  # type: ignore[call-overload]
            last = -1
            while (member := archive.next()) is not None:
                if archive.offset <= last:
                    raise tarfile.ReadError("a header points backwards")
                last = archive.offset
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
        found.problem = f"{url} is damaged or truncated ({error})"
        return found
    # The reader mistakes anything that is not a header for the end. The real end consists of zeros that fill the last
    # record. Zeros also occur in holes left by a download and between concatenated archives, but are longer or
    # followed by data.
    if not tarfile.BLOCKSIZE <= len(end) <= _LONGEST_END or end.count(0) < len(end):
        found.problem = f"{url} is damaged or truncated; samples before the damage are used"
    elif not found.members and not found.odd:
        found.problem = f"{url} is empty"
    return found


class _Headers:
    """A tar file with a limit on the header sizes that its reader requests."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.tell, self.seek = file, file.tell, file.seek

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return self._file.read(size)


def _oddity(member: tarfile.TarInfo) -> str | None:
    """Describe a member that is not a regular file, or return None for a regular one."""
    if member.issym() or member.islnk():
        return "a link"
    if member.issparse():
        return "a sparse file"
    if member.isreg():
        return None if min(member.size, member.offset_data) >= 0 else "a file of negative size"
    return "a folder" if member.isdir() else "a special file"


def _split(name: str) -> tuple[str, str]:
    """Split a name into key and suffix at the first dot of the file name, as webdataset does."""
    folder, file = posixpath.split(name)
    stem, dot, suffix = file.partition(".")
    return posixpath.join(folder, stem), f"{dot}{suffix}".lower()
