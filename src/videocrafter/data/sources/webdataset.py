"""Tar shards as img2dataset and video2dataset write them: `key.jpg` or `key.mp4` with `key.txt` and `key.json`.

Shards are read where they are: headers first, then the members that are needed. Nothing is unpacked, so the
names of members lead nowhere.
"""

from __future__ import annotations

import posixpath
import tarfile
from dataclasses import dataclass

from videocrafter.data.clip import BrokenClip, Clip, Kind
from videocrafter.data.errors import BadSampleError, SourceError
from videocrafter.data.file_kinds import SUFFIXES, main_kind
from videocrafter.data.locations import Location, list_files, list_matches, open_url
from videocrafter.data.media_clip import CaptionFile, MediaClip
from videocrafter.data.source import Shard, SourceConfig, check_kind

# Of the first shard that can be read, so many captions are looked at before the source counts as uncaptioned.
_CAPTIONS_LOOKED_AT = 100
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
        members, problem = _members(url)
        samples: dict[str, dict[str, Location]] = {}
        for member in members:
            key, suffix = _split(member.member)
            samples.setdefault(key, {})[suffix] = member
        clips = [clip for key, parts in samples.items() if (clip := self._clip(f"{url}#{key}", parts)) is not None]
        return Shard(clips=clips, problem=problem)

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
            if kind := main_kind(member.member for member in _members(url)[0]):
                return kind
        raise SourceError(f"{self.label}: no shard holds videos or images that can be read; check the files")

    def _look_at_captions(self) -> None:
        for index in range(self.num_shards):
            clips = self.read_shard(index).clips[:_CAPTIONS_LOOKED_AT]
            if clips:
                break
        else:
            raise SourceError(f"{self.label}: no shard holds a {self.kind} that can be read; check the files")
        if not any(_has_caption(clip) for clip in clips):
            given = f"field {self._caption!r} of the .json members" if self._caption else "the .txt member"
            raise SourceError(
                f"{self.label}: {given} is missing or empty for all of the first {len(clips)} samples of "
                f"{self._urls[index]}; name the field that holds the caption, such as caption=top_caption"
            )


def _has_caption(clip: Clip) -> bool:
    return isinstance(clip, MediaClip) and isinstance(clip.caption, CaptionFile) and clip.caption.is_there()


def _members(url: str) -> tuple[list[Location], str | None]:
    """Regular files of a tar, in its order, and what is wrong with it. Links and devices are passed over."""
    found: list[Location] = []
    try:
        with open_url(url) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                if member.isreg() and not member.issparse() and min(member.size, member.offset_data) >= 0:
                    place = Location(url=url, offset=member.offset_data, size=member.size, member=member.name)
                    found.append(place)
            file.seek(archive.offset)
            end = file.read(tarfile.BLOCKSIZE)
    except BadSampleError as error:
        return found, str(error)
    except (tarfile.TarError, OSError, EOFError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        return found, f"{url} is damaged or cut off ({error})"
    # The reader takes anything that is no header for the end; a real end is marked by zeros.
    whole = len(end) == tarfile.BLOCKSIZE and not any(end)
    return found, None if whole else f"{url} is damaged or cut off; samples before the damage are used"


def _split(name: str) -> tuple[str, str]:
    """Key and suffix: all behind the first dot of the file name, as webdataset has it."""
    folder, file = posixpath.split(name)
    stem, dot, suffix = file.partition(".")
    return posixpath.join(folder, stem), f"{dot}{suffix}".lower()
