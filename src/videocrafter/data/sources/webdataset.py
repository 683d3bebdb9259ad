"""Tar shards in the format of img2dataset and video2dataset: `key.jpg` or `key.mp4`, with `key.txt` and `key.json`.

Shards are read in place: headers first, then the members that are needed. Nothing is extracted, so member names
cannot lead out of a folder.
"""

from __future__ import annotations

import logging
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from videocrafter.data.clip import BrokenClip, Clip, Kind
from videocrafter.data.errors import SourceError
from videocrafter.data.file_kinds import SUFFIXES, kind_of, main_kind
from videocrafter.data.locations import Location, list_files, list_matches
from videocrafter.data.media_clip import CaptionFile, MediaClip
from videocrafter.data.source import ClipShard, SourceConfig, check_kind
from videocrafter.data.sources.tar_members import list_members

_log = logging.getLogger(__name__)
# Number of captions to check before the source counts as uncaptioned.
_CAPTIONS_CHECKED = 100
_ARTICLE: Mapping[Kind, str] = {"video": "a", "image": "an"}
_TEXT_SUFFIX, _JSON_SUFFIX = ".txt", ".json"
_COMPRESSED_SUFFIXES = (".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")


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
            compressed = [name for name in names if name.lower().endswith(_COMPRESSED_SUFFIXES)]
            if urls and compressed:
                message = "%s: %d compressed archives are not used, such as %s; decompress them"
                _log.warning(message, self.path, len(compressed), compressed[0])
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
        listing = list_members(url)
        ignored: Counter[str] = Counter()
        clips: list[Clip] = []
        for key, parts in _groups(listing.members, ignored):
            used: set[Location] = set()
            for sample_key, media, caption in self._samples(key, parts):
                used |= {media} if caption is None else {media, caption}
                clips.append(self._clip(f"{url}#{sample_key}", media, caption))
            ignored.update(
                self._rule(part.member, has_sample=bool(used)) for part in parts.values() if part not in used
            )
        for name, what in listing.odd:
            if kind_of(name) == self.kind:
                message = f"{url}#{name} is {what}, expected a regular file"
                clips.append(BrokenClip(key=f"{url}#{name}", reason="unreadable", message=message))
            else:
                ignored["folders" if what == "a folder" else "links and special files"] += 1
        problem = listing.problem
        if not clips and problem is None:
            problem = f"{url} contains no {self.kind}; it contains {listing.summary()}"
        return ClipShard(clips=clips, problem=problem, ignored=ignored)

    def _samples(self, key: str, parts: Mapping[str, Location]) -> Iterator[tuple[str, Location, Location | None]]:
        """Yield key, media and caption of the samples whose names are equal up to the first dot.

        Usually there is one, such as `key.mp4` and `key.txt`; its other media members are details, such as
        `key.depth.jpg`. If names contain dots, as in `key.v1.mp4` and `key.v1.txt`, each pair is a sample, and so is
        each media member if there is no `key.mp4`.
        """
        caption_suffix = _TEXT_SUFFIX if self._caption is None else _JSON_SUFFIX
        chosen: dict[str, str] = {}
        for end in SUFFIXES[self.kind]:
            for suffix in parts:
                if suffix.endswith(end):
                    chosen.setdefault(suffix.removesuffix(end), suffix)
        for suffix, media in parts.items():
            stem = suffix[: suffix.rfind(".")]
            if chosen.get(stem) != suffix:
                continue
            caption = parts.get(stem + caption_suffix)
            if caption is None and len(chosen) == 1:
                caption = parts.get(caption_suffix)
            if caption is not None or not stem or "" not in chosen:
                yield key + _dotted_stem(media.member), media, caption

    def _clip(self, key: str, media: Location, caption: Location | None) -> Clip:
        if caption is None:
            suffix = _TEXT_SUFFIX if self._caption is None else _JSON_SUFFIX
            return BrokenClip(key=key, reason="no_caption", message=f"{key} has no {suffix} member")
        return MediaClip(
            key=key, kind=self.kind, media=media, caption=CaptionFile(location=caption, field=self._caption)
        )

    def _rule(self, name: str, *, has_sample: bool) -> str:
        """Return the rule by which a member without a sample of its own is ignored."""
        kind = kind_of(name)
        if kind is not None:
            return f"further {kind}s of a sample" if kind == self.kind else f"{kind}s"
        if has_sample:
            return "other members of a sample"
        return f"members without {_ARTICLE[self.kind]} {self.kind}"  # such as the record of a failed download

    def _kind_of_first(self) -> Kind:
        problem = ""
        for url in self._urls:
            listing = list_members(url)
            if kind := main_kind(member.member for member in listing.members):
                return kind
            problem = problem or listing.problem or f"{url} contains {listing.summary()}"
        raise SourceError(f"{self.label}: no shard contains readable videos or images; {problem}")

    def _check_captions(self) -> None:
        num_checked, problem = 0, ""
        for index in range(self.num_shards):
            shard = self.read_shard(index)
            for clip in shard.clips[: _CAPTIONS_CHECKED - num_checked]:
                found = _caption_problem(clip)
                if found is None:
                    self._log_ignored(self._urls[index], shard)
                    return
                num_checked, problem = num_checked + 1, problem or found
            if not num_checked:
                problem = problem or shard.problem or ""
            if num_checked == _CAPTIONS_CHECKED:
                break
        if not num_checked:
            raise SourceError(f"{self.label}: no shard contains a readable {self.kind}; {problem}")
        given = f"field {self._caption!r} of the .json members" if self._caption else "the .txt member"
        raise SourceError(
            f"{self.label}: {given} is missing, empty or unreadable for all of the first {num_checked} samples "
            f"({problem}); name the field that contains the caption, such as caption=top_caption"
        )

    def _log_ignored(self, url: str, shard: ClipShard) -> None:
        if shard.ignored:
            counts = ", ".join(f"{count} {rule}" for rule, count in sorted(shard.ignored.items()))
            _log.info("%s: of %s, %d samples are used; ignored: %s", self.label, url, len(shard.clips), counts)


def _caption_problem(clip: Clip) -> str | None:
    if isinstance(clip, MediaClip) and isinstance(clip.caption, CaptionFile):
        return clip.caption.problem()
    return clip.message if isinstance(clip, BrokenClip) else None


def _groups(members: list[Location], ignored: Counter[str]) -> Iterator[tuple[str, dict[str, Location]]]:
    """Yield members by key, and within a key by lower-case suffix.

    A repeated name belongs to another group, named such as `key (2)`; so does a name that differs in case only.
    """
    groups: dict[tuple[str, int], dict[str, Location]] = {}
    seen: Counter[str] = Counter()
    for member in members:
        if posixpath.basename(member.member).startswith("."):
            ignored["hidden files"] += 1
            continue
        key, suffix = _split(member.member)
        seen[member.member] += 1
        number = seen[member.member]
        if suffix in groups.get((key, number), {}):
            key = member.member
        groups.setdefault((key, number), {})[suffix] = member
    for (key, number), parts in groups.items():
        yield key if number == 1 else f"{key} ({number})", parts


def _split(name: str) -> tuple[str, str]:
    """Split a name into key and suffix at the first dot of the file name, as webdataset does."""
    folder, file = posixpath.split(name)
    stem, dot, suffix = file.partition(".")
    return posixpath.join(folder, stem), f"{dot}{suffix}".lower()


def _dotted_stem(name: str) -> str:
    """Return the part of a file name from its first dot to its last one, such as ".v1" of "clip.v1.mp4"."""
    file = posixpath.basename(name)
    return file[file.index(".") : file.rindex(".")]
