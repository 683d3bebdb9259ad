"""Input images and clips of a run: checked before the model is loaded, and identified by their hashes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from videocrafter.generation.request import GenerateOptions
from videocrafter.media.file_hash import file_sha256

if TYPE_CHECKING:
    import numpy as np

    from videocrafter.media.video_file import VideoClip

_LARGEST_CLIP = 4 * 2**30
# Pixels on the short side of an image: more than a video has.
_ENOUGH_PIXELS = 1536


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Input files of a run.

    Attributes:
        clip: the input video that is changed or continued.
        image_end: the last frame of an interpolation.
        sha256: of each file, in hex.
        image: reads an image; caches the last few, which prompts may share.
    """

    clip: VideoClip | None = None
    image_end: np.ndarray | None = None
    sha256: dict[Path, str] = field(default_factory=dict)
    image: Callable[[Path], np.ndarray] = field(default_factory=lambda: lru_cache(maxsize=4)(read_input_image))


def read_inputs(options: GenerateOptions) -> Inputs:
    """Read and check all files that the options name.

    There may be many images, so only their hashes are kept; `Inputs.image` reads each again when it is needed.
    Raises ValueError or OSError naming the file.
    """
    images = dict.fromkeys(row.image for row in options.rows if row.image is not None)
    for path in images:
        read_input_image(path)
    files = [*images, *(path for path in (options.image_end, options.clip) if path is not None)]
    sha256 = {path: file_sha256(path) for path in dict.fromkeys(files) if path.is_file()}
    for path, expected in options.expected_sha256.items():
        if sha256.get(path) not in (None, expected):
            raise ValueError(f"{path} has changed since the video was made; to use it anyway, give it as an option")
    return Inputs(
        clip=None if options.clip is None else _read_clip(options.clip, options),
        image_end=None if options.image_end is None else read_input_image(options.image_end),
        sha256=sha256,
    )


def read_input_image(path: Path) -> np.ndarray:
    """Read an image, uint8 [H, W, 3]; one of many megapixels is shrunk.

    Raises ValueError naming the file if it is unreadable or a pixel wide.
    """
    from videocrafter.media.image_file import read_image

    image = read_image(path, min_side=_ENOUGH_PIXELS)
    height, width = image.shape[:2]
    if min(height, width) < 2:
        raise ValueError(f"{path} is {width}x{height}; an image needs at least 2 pixels per side")
    return image


def _read_clip(path: Path, options: GenerateOptions) -> VideoClip:
    from videocrafter.media.video_file import probe, read_clip

    info = probe(path)
    wanted = options.num_frames if options.video is not None else None
    available = info.num_even_frames
    num_frames = min(available, wanted) if wanted is not None else available
    size = num_frames * info.height * info.width * 3
    if size > _LARGEST_CLIP:
        raise ValueError(
            f"{path} has {available} frames of {info.width}x{info.height}, which take {size / 2**30:.0f} GiB of"
            f" memory; shorten or shrink it first{', or give `num_frames`' if options.video is not None else ''}"
        )
    return read_clip(path, max_frames=wanted)
