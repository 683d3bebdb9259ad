"""Match videos of several sets: one row per prompt and seed, one video per column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from videocrafter.evaluation.video_set import VideoEntry, VideoSet
from videocrafter.media.file_hash import file_sha256

_FEW = 3


@dataclass(frozen=True, kw_only=True)
class Row:
    """Videos that were asked for the same thing.

    Attributes:
        prompt: the prompt; the name of the file if it is unknown.
        seed: seed of all videos; None if they differ or are unknown.
        image: input image of image to video, or None.
        videos: by column; a column without a video for this row is missing.
    """

    prompt: str
    seed: int | None
    image: Path | None
    videos: Mapping[str, VideoEntry]


def match_videos(columns: Mapping[str, VideoSet], prompts: Sequence[str] | None = None) -> list[Row]:
    """Return the rows of several sets, in the order of `prompts`, or else of the first column.

    Videos of one prompt are matched by the content of their input images if all columns have some, then by their
    seeds if two columns share one, and otherwise in the order of the sets; each further one gets a row. Videos
    without a prompt are matched by the names of their files.

    Args:
        columns: sets by name of the column.
        prompts: prompts to include, in this order. None includes all.
    """
    groups: dict[tuple[str, str], dict[str, list[VideoEntry]]] = {}
    images = _share_images(columns)
    for column, videos in columns.items():
        for entry in videos.entries:
            key = (entry.prompt or f"\0{Path(entry.name).stem}", _image(entry) if images else "")
            groups.setdefault(key, {}).setdefault(column, []).append(entry)
    keys: Iterable[tuple[str, str]] = groups
    if prompts is not None:
        place = {prompt: index for index, prompt in reversed(list(enumerate(prompts)))}
        keys = sorted((key for key in groups if key[0] in place), key=lambda key: place[key[0]])
    return [row for key in keys for row in _rows(groups[key])]


def _share_images(columns: Mapping[str, VideoSet]) -> bool:
    """Whether input images tell rows apart: they do only if all columns know them."""
    return all(any(entry.image is not None for entry in videos.entries) for videos in columns.values())


def _image(entry: VideoEntry) -> str:
    """Return the hash of a video's input image, which may lie in several folders; "" without one."""
    recorded = entry.metadata.get("image_sha256")
    if entry.image is None or isinstance(recorded, str):
        return recorded if isinstance(recorded, str) else ""
    return file_sha256(entry.image) if entry.image.is_file() else str(entry.image)


def _rows(group: Mapping[str, list[VideoEntry]]) -> Iterable[Row]:
    seeds = Counter(seed for entries in group.values() for seed in {entry.seed for entry in entries})
    known = all(entry.seed is not None for entries in group.values() for entry in entries)
    if known and (len(group) == 1 or max(seeds.values()) > 1):
        order = dict.fromkeys(entry.seed for entries in group.values() for entry in entries)
        for seed in order:
            yield from _in_order({name: [one for one in all_ if one.seed == seed] for name, all_ in group.items()})
    else:
        yield from _in_order(group)


def _in_order(group: Mapping[str, list[VideoEntry]]) -> Iterable[Row]:
    for index in range(max(map(len, group.values()))):
        yield _row({name: entries[index] for name, entries in group.items() if index < len(entries)})


def _row(videos: dict[str, VideoEntry]) -> Row:
    first = next(iter(videos.values()))
    seeds = {entry.seed for entry in videos.values()}
    return Row(
        prompt=first.prompt or Path(first.name).stem,
        seed=first.seed if len(seeds) == 1 else None,
        image=next((entry.image for entry in videos.values() if entry.image is not None), None),
        videos=videos,
    )


def complete_rows(rows: Sequence[Row], columns: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Return the rows that have a video of every column, and one note about the others, if there are any."""
    complete = [row for row in rows if all(column in row.videos for column in columns)]
    left_out = [row.prompt for row in rows if any(column not in row.videos for column in columns)]
    if not left_out:
        return complete, []
    named = ", ".join(repr(prompt) for prompt in left_out[:_FEW]) + (", …" if len(left_out) > _FEW else "")
    return complete, [
        f"left out, because not every column has a video: {len(left_out)} of {len(rows)} prompts ({named})"
    ]
