"""The list of source videos, frozen in OUT: later runs add to it and name what changed, and forget nothing."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import fsspec

from videocrafter.data.clip import BrokenClip
from videocrafter.data.errors import BadSampleError
from videocrafter.data.file_kinds import VIDEO_SUFFIXES
from videocrafter.data.locations import Location, expand_home, is_remote, join_or_absolute, list_files
from videocrafter.data.media_clip import CaptionFile, MediaClip
from videocrafter.data.sources.metadata_folder import METADATA_NAMES
from videocrafter.preparation.failures import PreparationError, UnitError
from videocrafter.preparation.parquet_file import printable, read_parquet, write_parquet

_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".gz", ".tar")
_PLAN_NAME = re.compile(r"plan(-\d{3,})?\.parquet")
_STAMPS = ("ETag", "etag", "LastModified", "last_modified", "mtime", "updated", "created")
"""Properties of a remote file that change with its content, as file systems name them."""

_TRIES = 5
_FIRST_PAUSE_S = 0.5
# Waiting for a server takes no core.
_REQUESTS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A clip that the source itself defines, in seconds; `end_s` None is the end of the video."""

    start_s: float
    end_s: float | None
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class PlannedVideo:
    """A source video.

    Attributes:
        id: hash of address, size and stamp.
        name: name in reports.
        url, offset, length, member: its location; see `Location`.
        size: bytes.
        stamp: time of change, or the server's tag of the content.
        caption: the caption of the whole video; empty if there is none.
        segments: clips that the source defines; empty if they are to be found.
        reason: why it cannot be used, as far as the plan knows; empty if it can.
        problem: details, or what is wrong with the entry of a video that can be used.
        note: reason of that problem.
    """

    id: str
    name: str
    url: str
    offset: int = 0
    length: int | None = None
    member: str = ""
    size: int = 0
    stamp: str = ""
    caption: str = ""
    segments: tuple[Segment, ...] = ()
    reason: str = ""
    problem: str = ""
    note: str = "duplicate"

    @property
    def location(self) -> Location:
        """Its bytes."""
        return Location(url=self.url, offset=self.offset, size=self.length, member=self.member)

    @property
    def address(self) -> tuple[str, int, str]:
        """Identity that does not depend on its content."""
        return self.url, self.offset, self.member if self.url else self.name

    @property
    def is_captioned(self) -> bool:
        """Whether the source gives any caption."""
        return bool(self.caption) or any(segment.caption for segment in self.segments)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All videos, and those whose content, captions or clips are no longer those of the plan."""

    videos: tuple[PlannedVideo, ...]
    changed: tuple[str, ...] = ()
    num_new: int = 0


def list_videos(sources: Sequence[str]) -> list[PlannedVideo]:
    """List the videos of folders, files, lists and training sources, sorted by address.

    Args:
        sources: each a folder, a video, an address that fsspec opens, a `.txt` file with one of these per line, or a
            source as in `train --data`, such as `webvid:PATH?root=FOLDER`.

    Raises:
        SourceError: a source as a whole cannot be used.
        PreparationError: there is no video.
    """
    found: dict[tuple[str, int, str], PlannedVideo] = {}
    for source in sources:
        for video in _videos_of(expand_home(source)):
            before = found.get(video.address)
            found[video.address] = video if before is None else _merged(before, video)
    if not found:
        raise PreparationError(f"{', '.join(sources)} contains no videos; expected files such as {VIDEO_SUFFIXES}")
    return sorted(_all_identified(found.values()), key=lambda video: (video.address, video.name))


def _merged(before: PlannedVideo, video: PlannedVideo) -> PlannedVideo:
    """Combine two entries for one video: all clips, and the first caption. What is not used is named."""
    problem, note = (before.problem, before.note) if before.problem else (video.problem, video.note)
    if before.caption and video.caption not in ("", before.caption):
        problem, note = f"{before.name} is listed again, with the caption {video.caption!r}", "duplicate"
    if bool(before.segments) != bool(video.segments):
        problem, note = f"{before.name} is listed as a whole and with clips; only the clips are used", "duplicate"
    return replace(
        before,
        caption=before.caption or video.caption,
        segments=before.segments + video.segments,
        problem=problem,
        note=note,
    )


def freeze(out: Path, videos: Sequence[PlannedVideo], *, accept_changed: bool, write: bool = True) -> Plan:
    """Combine the present list with the plan of earlier runs in `out`, and store additions.

    Args:
        accept_changed: whether videos that changed since the plan replace their earlier versions.
        write: False leaves `out` alone, for a dry run.
    """
    planned = {video.address: video for video in read_plan(out)}
    new, changed = [], []
    gone: dict[tuple[str, int, str], PlannedVideo] = {}
    for video in videos:
        before = planned.get(video.address)
        if before is not None and video.reason and not before.reason:
            gone[video.address] = video
            continue
        # The same video may be listed under another name, such as a whole path.
        is_other = before is None or before != replace(
            video, name=before.name, problem=before.problem, note=before.note
        )
        if is_other and (before is None or before.reason or accept_changed):
            new.append(video)
        elif is_other:
            changed.append(video.name)
    if new and write:
        files = _plan_files(out)
        number = max(map(_number, files)) + 1 if files else 1
        name = "plan.parquet" if number == 1 else f"plan-{number:03d}.parquet"
        write_parquet(out / name, [_row(video) for video in new])
    planned.update({video.address: video for video in new})
    listed = {video.address for video in videos}
    others = [video for address, video in planned.items() if address not in listed and not video.reason]
    gone.update(
        (now.address, now) for now in _all_identified(replace(video, id="") for video in others) if now.reason
    )
    # In the plan for ever, but no rival of the videos that are there.
    for address, now in gone.items():
        planned[address] = replace(planned[address], reason=now.reason, problem=now.problem)
    everything = sorted(planned.values(), key=lambda video: video.id)
    return Plan(videos=tuple(everything), changed=tuple(changed), num_new=len(new))


def read_plan(out: Path) -> list[PlannedVideo]:
    """Return the videos of the plan in `out`, later versions last; empty if there is none."""
    return [_from_row(row) for path in _plan_files(out) for row in read_parquet(path)]


def check_unchanged(video: PlannedVideo) -> None:
    """Check that a video is still the one of the plan.

    Raises:
        UnitError: it is missing, changed, or cannot be reached.
    """
    if video.reason:
        raise UnitError(video.reason, video.problem)
    now = _identified(video)
    if now.reason:
        raise UnitError(now.reason, now.problem)
    if now.id != video.id:
        raise UnitError(
            "changed_source",
            f"{video.name} changed since the plan ({video.size} bytes, {video.stamp}; now {now.size} bytes, "
            f"{now.stamp}); restore it, or pass --accept-changed",
        )


def _videos_of(source: str, lists: tuple[str, ...] = ()) -> Iterator[PlannedVideo]:
    suffix = source[source.rfind(".") :].lower()
    is_file = is_remote(source) or Path(source).is_file()
    if suffix == ".txt" and is_file:
        yield from _listed(source, lists)
    elif suffix in VIDEO_SUFFIXES and is_file:
        yield _at(source)
    elif _is_plain_folder(source):
        yield from _in_folder(source)
    else:
        yield from _in_training_source(source)


def _listed(path: str, lists: tuple[str, ...]) -> Iterator[PlannedVideo]:
    """Yield the videos of a list; `lists` are those that it is in."""
    place = path if is_remote(path) else str(Path(path).resolve())
    if place in lists:
        raise PreparationError(f"the list {path} names itself, directly or through another list; remove that line")
    lists = (*lists, place)
    try:
        text = Location(url=path).read(1 << 30).decode("utf-8")
    except (BadSampleError, UnicodeDecodeError) as error:
        raise PreparationError(f"{path} cannot be read as a list of videos ({error})") from error
    folder = "" if is_remote(path) else str(Path(path).resolve().parent)
    for line in text.splitlines():
        if line.strip():
            try:
                place = join_or_absolute(folder, line.strip())
                # A video that is not there is one row; anything else that is not there is an error of the whole list.
                yield from [_at(place)] if place.lower().endswith(VIDEO_SUFFIXES) else _videos_of(place, lists)
            except PreparationError:
                raise
            except (ValueError, BadSampleError) as error:
                yield PlannedVideo(id="", name=line.strip(), url="", reason="missing", problem=str(error))


def _is_plain_folder(source: str) -> bool:
    """Whether a source is a folder of videos, and not one with a table, nor with tar files alone."""
    is_address = is_remote(source) and ":" not in source.partition("://")[0]
    if not Path(source).is_dir() and (not is_address or source.lower().endswith(_TABLES)):
        return False
    names = list_files(source)
    if any(name in METADATA_NAMES for name in names):
        return False
    has_videos = any(name.lower().endswith(VIDEO_SUFFIXES) for name in names)
    return has_videos or not any(name.lower().endswith(".tar") for name in names)


def _in_folder(folder: str) -> Iterator[PlannedVideo]:
    names = list_files(folder)
    texts = {name[:-4]: name for name in names if name.lower().endswith(".txt")}
    tags = _tags(folder) if is_remote(folder) else {}
    for name in names:
        if name.lower().endswith(VIDEO_SUFFIXES):
            text = texts.get(name[: name.rfind(".")])
            caption = CaptionFile(location=Location(url=f"{folder.rstrip('/')}/{text}")) if text else ""
            video = replace(_at(f"{folder.rstrip('/')}/{name}", name), **_caption(caption))
            yield _with_id(video, *tags[name]) if name in tags and video.url else video
        elif name.lower().endswith(".tar"):
            problem = f"{name} is a tar file in a folder of videos; to prepare it too, add webdataset:{folder}/{name}"
            yield PlannedVideo(id="", name=name, url="", reason="bad_row", problem=problem)


def _tags(folder: str) -> dict[str, tuple[int, str]]:
    """Return size and tag of the files below a remote folder that its listing states, by relative path.

    A tag is the same when a single file is asked for; other stamps may be rounded there.
    """
    found = {}
    with suppress(Exception):  # each file is then asked for
        system, path = fsspec.core.url_to_fs(folder)
        for name, info in system.find(path, detail=True).items():
            tag = info.get("ETag") or info.get("etag")
            if tag and info.get("size") is not None:
                found[name.removeprefix(path.rstrip("/") + "/")] = int(info["size"]), str(tag)
    return found


def _in_training_source(spec: str) -> Iterator[PlannedVideo]:
    # One of the sources loads torch, which the processes that decode do not need.
    from videocrafter.data.sources.specs import open_source

    source = open_source(spec)
    if source.kind != "video":
        raise PreparationError(f"{spec} contains images, expected videos")
    for index in range(source.num_shards):
        shard = source.read_shard(index)
        if shard.problem:
            yield PlannedVideo(id="", name=f"{spec}, part {index}", url="", reason="bad_row", problem=shard.problem)
        for clip in shard.clips:
            if isinstance(clip, BrokenClip):
                reason = clip.reason if clip.reason == "missing" else "bad_row"
                yield PlannedVideo(id="", name=clip.key, url="", reason=reason, problem=clip.message)
            elif isinstance(clip, MediaClip):
                yield _of_clip(clip)
            else:
                raise PreparationError(f"{spec} has no files; expected videos in files")


def _of_clip(clip: MediaClip) -> PlannedVideo:
    media = clip.media
    video = replace(_at(media.url), offset=media.offset, length=media.size, member=media.member)
    given = _caption(clip.caption)
    if clip.start_s <= 0 and clip.end_s is None:
        return replace(video, name=clip.key, **given)
    segment = Segment(start_s=clip.start_s, end_s=clip.end_s, caption=given.pop("caption", ""))
    return replace(video, segments=(segment,), **given)


def _at(url: str, name: str | None = None) -> PlannedVideo:
    if (text := printable(url)) != url:
        problem = f"{text} has a name that is not UTF-8; rename it"
        return PlannedVideo(id="", name=printable(name or url), url="", reason="unreadable", problem=problem)
    return PlannedVideo(id="", name=name or url, url=url if is_remote(url) else str(Path(url).resolve()))


def _caption(caption: str | CaptionFile) -> dict[str, Any]:
    try:
        return {"caption": caption.read() if isinstance(caption, CaptionFile) else caption}
    except BadSampleError as error:
        return {"problem": str(error), "note": "bad_caption"}


def _all_identified(videos: Iterable[PlannedVideo]) -> list[PlannedVideo]:
    """Look up all videos that have no id. The order may change."""
    found, remote = [], []
    for video in videos:
        if video.id or not is_remote(video.url):
            found.append(video if video.id else _identified(video))
        else:
            remote.append(video)
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        return [*found, *pool.map(_identified, remote)]


def _identified(video: PlannedVideo) -> PlannedVideo:
    """Look up size and stamp, and compute the id. A server is asked several times."""
    if not video.url:
        return replace(video, id=_hash(video.name, video.reason))
    reason, problem = "", ""
    for attempt in range(_TRIES if is_remote(video.url) else 1):
        time.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1) if attempt else 0)
        try:
            return _with_id(video, *_looked_up(video.url))
        except FileNotFoundError:
            reason, problem = "missing", f"{video.url} does not exist"
            break
        except Exception as error:  # noqa: BLE001  whatever the package that serves the address raises
            reason = "network" if is_remote(video.url) else "missing"
            problem = f"{video.url} cannot be reached ({type(error).__name__}: {error})"
            if isinstance(error, ImportError):
                break
    return replace(video, id=_hash(*video.address, reason), reason=reason, problem=problem)


def _looked_up(url: str) -> tuple[int, str]:
    """Return size and stamp of a file."""
    if not is_remote(url):
        status = Path(url).stat()
        return status.st_size, str(status.st_mtime_ns)
    system, path = fsspec.core.url_to_fs(url)
    info = system.info(path)
    stamp = next((str(info[key]) for key in _STAMPS if info.get(key) is not None), "")
    return int(info.get("size") or 0), stamp


def _with_id(video: PlannedVideo, size: int, stamp: str) -> PlannedVideo:
    return replace(video, id=_hash(*video.address, size, stamp), size=size, stamp=stamp, reason="")


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _plan_files(out: Path) -> list[Path]:
    return sorted((path for path in out.glob("plan*.parquet") if _PLAN_NAME.fullmatch(path.name)), key=_number)


def _number(path: Path) -> int:
    return int(path.stem.partition("-")[2] or 1)


def _row(video: PlannedVideo) -> dict[str, Any]:
    return {**asdict(video), "segments": json.dumps([asdict(segment) for segment in video.segments])}


def _from_row(row: dict[str, Any]) -> PlannedVideo:
    segments = tuple(Segment(**segment) for segment in json.loads(row["segments"]))
    return PlannedVideo(**{**row, "segments": segments})
