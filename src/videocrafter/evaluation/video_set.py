"""A set of videos to measure or compare: files with their prompts, from any folder or table.

The prompt of a file is looked for in this order:

1. a table: the given file, or the folder's own `metadata` or `videos` table (`.csv`, `.tsv`, `.jsonl`, `.json`);
2. a prompt list given by the user, for files that are named by number (EvalCrafter: `0000.mp4` is the first prompt);
3. a text file next to the video: `rocket.txt` for `rocket.mp4`;
4. the recording that `videocrafter generate` stores inside the file, or a `.json` next to it;
5. the folder's own prompt list (`prompts.txt`, `prompt700.txt` …), for files that are named by number;
6. the file's name: `a red kite-2.mp4` is a sample of "a red kite" (VBench).

Whatever does not fit is a problem with a name and a message; nothing is dropped silently.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from videocrafter.data.cells import is_blank
from videocrafter.data.file_kinds import VIDEO_SUFFIXES
from videocrafter.data.rows import read_rows
from videocrafter.data.text_files import decode_text
from videocrafter.evaluation.prompt_list import (
    PROMPT_COLUMNS,
    TABLE_SUFFIXES,
    PromptItem,
    checked_seed,
    checked_text,
    read_prompt_list,
)
from videocrafter.generation.recorded_paths import find_recorded
from videocrafter.media.errors import MediaError
from videocrafter.media.json_file import read_json_object
from videocrafter.media.video_file import read_metadata, sidecar_path

ProblemKind = Literal["no_prompt", "no_video", "second_video", "missing_file", "unreadable", "bad_row", "no_image"]

_PATH_COLUMNS = ("path", "video", "file_name", "file", "video_path", "videoid")
_TABLE_NAMES = ("metadata", "videos")
_NUMBERED = re.compile(r"\d+")
_SAMPLE_OF_PROMPT = re.compile(r"(?P<prompt>\S+ .*\S|\S+ \S)-(?P<sample>\d+)")
_PROMPT_LIST_NAME = re.compile(r"prompts?\d*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class VideoEntry:
    """One video and what it was asked to show.

    Attributes:
        path: a video file, or a folder of PNG frames written by `write_video`.
        prompt: the prompt; empty if unknown.
        seed: the seed it was generated with; None if unknown.
        name: unique name within the set: the path relative to the set's folder.
        image: input image of image to video; None if there is none.
        metadata: the recording, or the other columns of the table.
    """

    path: Path
    prompt: str
    seed: int | None
    name: str
    image: Path | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class VideoProblem:
    """A file, row or prompt that does not fit.

    Attributes:
        kind: category, for counting.
        name: the file, row or prompt.
        message: what is wrong, in one line.
    """

    kind: ProblemKind
    name: str
    message: str


@dataclass(frozen=True, kw_only=True)
class VideoSet:
    """Videos in a fixed order, and the problems found while listing them.

    Attributes:
        root: the folder, or the folder of the table.
        entries: the videos, sorted by name or in the order of the table.
        problems: what was left out or is incomplete, in the order of discovery.
    """

    root: Path
    entries: tuple[VideoEntry, ...]
    problems: tuple[VideoProblem, ...] = ()

    @property
    def prompts(self) -> tuple[str, ...]:
        """Distinct known prompts, in order of first appearance."""
        return tuple(dict.fromkeys(entry.prompt for entry in self.entries if entry.prompt))


def read_video_set(what: Path, prompts: Path | Sequence[PromptItem] | None = None) -> VideoSet:
    """List the videos of a folder or table with their prompts. Opens each file for its metadata; decodes nothing.

    Args:
        what: a folder, or a table with a column for the path and one for the prompt.
        prompts: the list of prompts, or its file. Files named by number take their prompt from it, and prompts
            without a video become problems.

    Raises:
        ValueError: there are no videos, or a table or prompt list cannot be read.
        OSError: the folder or a file cannot be read.
    """
    if isinstance(prompts, Path):
        prompts = read_prompt_list(prompts)
    table = what if what.is_file() else _table_in(what)
    collected = _Collected(root=what.parent if what.is_file() else what)
    if table is not None:
        collected.add_table(table)
    else:
        collected.add_folder(None if prompts is None else tuple(prompts))
    collected.add_attributes(prompts or ())
    collected.report_unused(prompts or ())
    if not collected.entries:
        details = f"; {collected.problems[0].message}" if collected.problems else ""
        raise ValueError(f"{what} contains no usable videos, expected files such as a.mp4 or a.webm{details}")
    return VideoSet(
        root=collected.root, entries=tuple(collected.entries.values()), problems=tuple(collected.problems)
    )


class _Collected:
    """Entries and problems while a set is read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entries: dict[str, VideoEntry] = {}
        self.problems: list[VideoProblem] = []
        self._slots: dict[tuple[str, str, int | str], str] = {}

    def problem(self, kind: ProblemKind, name: str, message: str) -> None:
        self.problems.append(VideoProblem(kind=kind, name=name, message=" ".join(message.split())))

    def add(self, entry: VideoEntry, slot: int | str | None = None) -> None:
        """Add a video unless it is the second one of its prompt, image and slot (its seed, or its name's stem)."""
        if not entry.prompt:
            self.problem("no_prompt", entry.name, f"{entry.name} has no prompt; metrics that need one leave it out")
        slot = entry.seed if entry.seed is not None else slot
        if slot is not None and entry.prompt:
            first = self._slots.setdefault((entry.prompt, str(entry.image or ""), slot), entry.name)
            if first != entry.name:
                self.problem(
                    "second_video",
                    entry.name,
                    f"{entry.name} is a second video for the prompt and seed of {first}; the first one is used",
                )
                return
        if entry.image is not None and not entry.image.is_file():
            self.problem("no_image", entry.name, f"{entry.name}: its input image {entry.image} does not exist")
            entry = replace(entry, image=None)
        if entry.name in self.entries:
            self.problem("second_video", entry.name, f"{entry.name} is listed twice; its first row is used")
            return
        self.entries[entry.name] = entry

    def add_table(self, table: Path) -> None:
        for row in read_rows(str(table), ()):
            cells = {name.strip(): cell for name, cell in row.cells.items() if not is_blank(cell)}
            if not row.problem and not cells:
                continue
            try:
                if row.problem:
                    raise ValueError(row.problem)
                self._add_row(cells, row.where)
            except ValueError as error:
                self.problem("bad_row", row.where, str(error))

    def _add_row(self, cells: dict[str, Any], where: str) -> None:
        column = next((name for name in _PATH_COLUMNS if name in cells), None)
        if column is None:
            raise ValueError(f"{where} names no video; expected a column named {' or '.join(_PATH_COLUMNS)}")
        name = checked_text(cells.pop(column), where)
        path = self.root / name
        text = next((name for name in PROMPT_COLUMNS if name in cells), None)
        seed, image = cells.pop("seed", None), cells.pop("image", None)
        entry = VideoEntry(
            path=path,
            prompt="" if text is None else checked_text(cells.pop(text), where),
            seed=None if seed is None else checked_seed(seed, where),
            name=name,
            image=None if image is None else self.root / checked_text(image, where),
            metadata=cells,
        )
        if not path.exists():
            self.problem("missing_file", name, f"{where}: {path} does not exist")
        else:
            self.add(entry, slot=name)

    def add_folder(self, prompts: tuple[PromptItem, ...] | None) -> None:
        own = cache(lambda: None if prompts is not None else _prompt_list_of(self.root))
        for path in sorted(_videos_in(self.root)):
            self._add_file(path, prompts, own)

    def _add_file(
        self, path: Path, prompts: tuple[PromptItem, ...] | None, own: Callable[[], Sequence[PromptItem] | None]
    ) -> None:
        try:
            entry, slot = _entry(path, prompts, own)
        except MediaError as error:
            self.problem("unreadable", path.name, str(error))
        except ValueError as error:
            self.problem("bad_row", path.name, str(error))
        else:
            self.add(entry, slot)

    def add_attributes(self, prompts: Sequence[PromptItem]) -> None:
        """Add the attributes of listed prompts to their videos."""
        attributes = {item.prompt: item.attributes for item in prompts}
        for name, entry in self.entries.items():
            if extra := attributes.get(entry.prompt):
                self.entries[name] = replace(entry, metadata={**entry.metadata, **extra})

    def report_unused(self, prompts: Sequence[PromptItem]) -> None:
        """Report listed prompts without a video."""
        found = {entry.prompt for entry in self.entries.values()}
        for number, item in enumerate(prompts):
            if item.prompt not in found:
                self.problem("no_video", item.prompt, f"prompt {number} ({item.prompt!r}) has no video")


def _entry(
    path: Path, prompts: Sequence[PromptItem] | None, own_list: Callable[[], Sequence[PromptItem] | None]
) -> tuple[VideoEntry, int | str | None]:
    """Return the entry of a file, and the number of its sample or its stem if two files may claim the same place."""
    name = path.name
    metadata = _metadata(path)
    seed = metadata.get("seed")
    image = metadata.get("image")
    entry = VideoEntry(
        path=path,
        prompt=_prompt_in(metadata),
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        name=name,
        image=find_recorded(image, path.parent, metadata.get("image_sha256")) if isinstance(image, str) else None,
        metadata=metadata,
    )
    if (item := _numbered(path.stem, prompts)) is not None:
        return _with_item(entry, item), path.stem
    if (text := path.with_suffix(".txt")).is_file() and path.suffix:
        return replace(entry, prompt=_text_file(text)), path.stem
    if entry.prompt:
        return entry, path.stem
    # Read only when it is needed: the folder above may hold lists that have nothing to do with these videos.
    own = own_list() if _NUMBERED.fullmatch(path.stem) else None
    if (item := _numbered(path.stem, own)) is not None:
        return _with_item(entry, item), path.stem
    if (match := _SAMPLE_OF_PROMPT.fullmatch(path.stem)) is not None:
        sample = int(match["sample"])
        return replace(entry, prompt=match["prompt"].strip(), metadata={**metadata, "sample": sample}), sample
    return entry, None


def _with_item(entry: VideoEntry, item: PromptItem) -> VideoEntry:
    return replace(
        entry,
        prompt=item.prompt,
        seed=entry.seed if item.seed is None else item.seed,
        image=entry.image if item.image is None else item.image,
        metadata={**entry.metadata, **item.attributes},
    )


def _numbered(stem: str, items: Sequence[PromptItem] | None) -> PromptItem | None:
    if items is None or not _NUMBERED.fullmatch(stem) or int(stem) >= len(items):
        return None
    return items[int(stem)]


def _metadata(path: Path) -> dict[str, Any]:
    """Return the recording of a video, or the JSON next to it; reading it also shows whether the file is a video."""
    found = read_metadata(path)
    other = path.with_suffix(".json")
    if not found and path.suffix and other.is_file() and other != sidecar_path(path):
        found = read_json_object(other)
    return found


def _prompt_in(metadata: Mapping[str, Any]) -> str:
    values = (metadata.get(name) for name in PROMPT_COLUMNS)
    return next((checked_text(value, "the recording") for value in values if isinstance(value, str)), "")


def _text_file(path: Path) -> str:
    return " ".join(decode_text(path.read_bytes(), str(path)).split())


def _videos_in(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        is_file = path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES
        if is_file or (path.is_dir() and (path / "frame_000000.png").is_file()):
            yield path


def _table_in(folder: Path) -> Path | None:
    if not folder.is_dir():
        raise ValueError(f"{folder} does not exist; pass a folder of videos, or a table that lists them")
    names = [folder / f"{name}{suffix}" for name in _TABLE_NAMES for suffix in TABLE_SUFFIXES]
    found = [path for path in names if path.is_file()]
    if len(found) > 1:
        raise ValueError(f"{folder} contains {found[0].name} and {found[1].name}; keep one, or pass the table itself")
    return found[0] if found else None


def _prompt_list_of(folder: Path) -> tuple[PromptItem, ...] | None:
    """Return the prompts of the only prompt list in a folder, or else in its parent; None if there is none."""
    for place in (folder, folder.absolute().parent):
        found = [
            path
            for path in sorted(place.iterdir())
            if _PROMPT_LIST_NAME.fullmatch(path.stem) and path.suffix.lower() in (".txt", *TABLE_SUFFIXES)
        ]
        if len(found) > 1:
            raise ValueError(f"{place} contains {found[0].name} and {found[1].name}; name one with --prompts")
        if found:
            return read_prompt_list(found[0])
    return None
