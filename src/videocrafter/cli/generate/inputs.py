"""Pictures and clips that a run starts from: all looked at before the model is loaded, each known by its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from videocrafter.cli.generate.request import GenerateOptions

if TYPE_CHECKING:
    import numpy as np

_LARGEST_CLIP = 4 * 2**30
_CHUNK = 2**20


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A video to start from: frames uint8 [T, H, W, 3], and their rate."""

    frames: np.ndarray
    fps: float


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the run starts from.

    Attributes:
        clip: of --video or --continue.
        image_end: of --image-end.
        sha256: of each file, in hex.
        picture: reads a picture; remembers the last few, so that prompts can share one.
    """

    clip: Clip | None = None
    image_end: np.ndarray | None = None
    sha256: dict[Path, str] = field(default_factory=dict)
    picture: Callable[[Path], np.ndarray] = field(default_factory=lambda: lru_cache(maxsize=4)(read_picture))


def read_inputs(options: GenerateOptions) -> Inputs:
    """Read and check all that the options name.

    Of pictures, which may be many, only the hashes are kept; `Inputs.picture` reads one again when its turn comes.
    Raises ValueError or OSError naming the file.
    """
    pictures = dict.fromkeys(row.image for row in options.rows if row.image is not None)
    for path in pictures:
        read_picture(path)
    files = [*pictures, *(path for path in (options.image_end, options.clip) if path is not None)]
    sha256 = {path: _sha256(path) for path in dict.fromkeys(files) if path.is_file()}
    for path, expected in options.expected_sha256.items():
        if sha256.get(path) not in (None, expected):
            raise ValueError(f"{path} has changed since the video was made; to use it all the same, name it again")
    return Inputs(
        clip=None if options.clip is None else _read_clip(options.clip, options),
        image_end=None if options.image_end is None else read_picture(options.image_end),
        sha256=sha256,
    )


def read_picture(path: Path) -> np.ndarray:
    """A picture, uint8 [H, W, 3]. Raises ValueError naming the file if it is none, or less than 2 pixels wide."""
    from videocrafter.media.image_file import read_image

    image = read_image(path)
    height, width = image.shape[:2]
    if min(height, width) < 2:
        raise ValueError(f"{path} is {width}x{height}; a picture needs at least 2 pixels per side")
    return image


def _read_clip(path: Path, options: GenerateOptions) -> Clip:
    from videocrafter.media.video_file import probe, read_frames

    info = probe(path)
    wanted = options.num_frames if options.video is not None else None
    counted = info.num_frames or round(info.duration_s * info.fps)
    num_frames = min(counted, wanted) if wanted is not None else counted
    size = num_frames * info.height * info.width * 3
    if size > _LARGEST_CLIP:
        raise ValueError(
            f"{path} has {counted} frames of {info.width}x{info.height}, which take {size / 2**30:.0f} GiB of memory;"
            f" cut it shorter or make it smaller first{', or give --frames' if options.video is not None else ''}"
        )
    return Clip(frames=read_frames(path, max_frames=wanted), fps=info.fps)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
