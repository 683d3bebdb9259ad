"""Write one chosen piece of a video as an mp4: copied where its keyframes allow that, else encoded."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from videocrafter.media.errors import MediaError, UnusableMediaError
from videocrafter.media.framing import Framer, Framing
from videocrafter.media.video_copy import copy_part
from videocrafter.media.video_encoding import encode_video
from videocrafter.media.video_reader import VideoReader, open_reader
from videocrafter.preparation.config import ClipConfig
from videocrafter.preparation.failures import UnitError
from videocrafter.preparation.scan.crop import WHOLE, Crop

VERSION = 2
"""Raised when the same settings give other files."""

# Frames that are decoded together; a small number keeps 4K within the memory limit.
_CHUNK = 4

Written = tuple[bytes, dict[str, Any]]
"""The file of a piece, and its size, rate and length, as JSON data."""


def write_clips(
    source: Path | BinaryIO, name: str, clips: Sequence[tuple[str, float, float, Crop]], config: ClipConfig
) -> Iterator[tuple[str, Written | UnitError]]:
    """Yield the files of pieces of one video, or why there is none.

    A variable frame rate becomes a constant one. Height and width are even. The video stays open from one piece to
    the next, because indexing its frames may take as long as encoding a piece.

    Args:
        clips: id, start and end in seconds, and top, bottom, left and right of the picture without bars.
    """
    waiting = deque(clips)
    while waiting:
        part = waiting.popleft()
        try:
            if not isinstance(source, Path):
                source.seek(0)
            with open_reader(source, name) as reader:
                while True:
                    # The first frame again: a file must not depend on the pieces before it.
                    next(reader.walk())
                    yield part[0], _written(reader, source, name, part[1:], config)
                    if not waiting:
                        return
                    part = waiting.popleft()
        except UnusableMediaError as error:
            yield part[0], UnitError.of(error)
        except MediaError as error:
            yield part[0], UnitError("unexpected", str(error))


def _written(
    reader: VideoReader, source: Path | BinaryIO, name: str, part: tuple[float, float, Crop], config: ClipConfig
) -> Written:
    data, (start_s, end_s, crop) = None, part
    if config.copy and _may_be_copied(reader, start_s, end_s, crop, config):
        with _lent(source):
            data = copy_part(source, name, start_s, end_s)
    is_copied = data is not None
    if data is None:
        options = {"crf": str(config.crf), "preset": config.preset}
        data = encode_video(_frames(reader, start_s, end_s, crop, config), reader.fps, options=options)
    with open_reader(io.BytesIO(data), name) as clip:
        height, width = clip.size
        return data, {
            "height": height,
            "width": width,
            "fps": clip.fps,
            "frames": clip.num_frames,
            "bytes": len(data),
            "copied": is_copied,
        }


def _may_be_copied(reader: VideoReader, start_s: float, end_s: float, crop: Crop, config: ClipConfig) -> bool:
    height, width = reader.size
    is_small = config.max_short_side is None or min(height, width) <= config.max_short_side
    # Looking for the packets reads the whole video, which is not worth it for a small part.
    is_most = end_s - start_s >= 0.5 * reader.duration_s
    is_even = height % 2 == width % 2 == 0
    return is_small and is_most and is_even and reader.timing.is_constant and tuple(crop) == WHOLE


def cropped_size(height: int, width: int, crop: Crop, max_short_side: int | None) -> tuple[int, int, int, int]:
    """Return the size to scale the whole picture to, and the even size of the part inside the crop."""
    inner_height, inner_width = height * (crop[1] - crop[0]), width * (crop[3] - crop[2])
    scale = min(1.0, max_short_side / min(inner_height, inner_width)) if max_short_side else 1.0
    even = [max(2, int(side * scale + 1e-6) // 2 * 2) for side in (inner_height, inner_width)]
    return max(even[0], round(height * scale)), max(even[1], round(width * scale)), even[0], even[1]


def _frames(
    reader: VideoReader, start_s: float, end_s: float, crop: Crop, config: ClipConfig
) -> Iterator[np.ndarray]:
    height, width, inner_height, inner_width = cropped_size(*reader.size, crop, config.max_short_side)
    count = max(1, int((min(end_s, reader.duration_s) - start_s) * reader.fps + 0.01))
    # The middle of each frame's time, so that rounded time stamps do not matter.
    times_s = [start_s + (number + 0.5) / reader.fps for number in range(count)]
    top = min(round(crop[0] * height), height - inner_height)
    left = min(round(crop[2] * width), width - inner_width)
    for first in range(0, count, _CHUNK):
        for picture in reader.frames_at(times_s[first : first + _CHUNK], _scaled_to(height, width)):
            yield picture[top : top + inner_height, left : left + inner_width]


def _scaled_to(height: int, width: int) -> Framer:
    return lambda *_: Framing(height=height, width=width)


@contextmanager
def _lent(source: Path | BinaryIO) -> Iterator[None]:
    """Let another reader read a file from its start; the first one then continues where it was."""
    if isinstance(source, Path):
        yield
        return
    place = source.tell()
    source.seek(0)
    try:
        yield
    finally:
        source.seek(place)
