"""Copies of videos for raters: one size, rate, length and codec, without metadata; and damaged copies as checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from videocrafter.media.errors import MediaError
from videocrafter.media.framing import Framing, frame_image
from videocrafter.media.video_file import VideoInfo, probe, read_frames

Frames = NDArray[np.uint8]

_TILES = 8
_HIGHEST_RATE = 60.0


@dataclass(frozen=True, kw_only=True)
class CopyFormat:
    """The format that all copies share, so that nothing but the content tells systems apart.

    Attributes:
        height, width: in pixels, both even.
        fps: frames per second.
        num_frames: frames of each copy.
    """

    height: int
    width: int
    fps: float
    num_frames: int


def shared_format(videos: Sequence[Path]) -> tuple[CopyFormat, list[str]]:
    """Choose the format of all copies: the smallest height and width, the highest rate, the shortest length.

    Returns:
        The format, and one note for each property in which the videos differ.

    Raises:
        MediaError: a video cannot be read, or has fewer than two frames.
    """
    infos = {path: _checked(path) for path in videos}
    # Each side by itself: no copy is scaled up, which would look blurred.
    height, width = (
        max(2, min(sides) // 2 * 2)
        for sides in zip(*((info.height, info.width) for info in infos.values()), strict=True)
    )
    fps = min(max(info.fps for info in infos.values()), _HIGHEST_RATE)
    shortest = min(info.duration_s for info in infos.values())
    # The small addend: 1 s at 8 frames per second is 8 frames, whatever rounding says.
    num_frames = max(2, int(shortest * fps + 1e-6))
    notes = []
    if len({(info.height, info.width) for info in infos.values()}) > 1:
        notes.append(f"sizes differ; all copies are scaled and cropped to {width}x{height}")
    if len({round(info.fps, 3) for info in infos.values()}) > 1:
        notes.append(f"frame rates differ; all copies are shown at {fps:g} frames per second")
    if max(info.duration_s for info in infos.values()) > shortest + 0.5 / fps:
        notes.append(f"lengths differ; all copies are cut to {num_frames / fps:.2f} s")
    return CopyFormat(height=height, width=width, fps=fps, num_frames=num_frames), notes


def read_copy(path: Path, form: CopyFormat) -> Frames:
    """Return the frames of a copy, [T, H, W, 3]: sampled by time, scaled to cover the frame, cropped."""
    times = [(index + 0.5) / form.fps for index in range(form.num_frames)]
    frames = read_frames(path, times)
    framing = Framing(height=form.height, width=form.width)
    return np.stack([frame_image(frame, framing) for frame in frames])


def damaged(frames: Frames, seed: int) -> Frames:
    """Return a copy in which nothing can be recognised: tiles in random places, other places in each frame.

    Colours and file size stay plausible, so that the video must be watched to notice.
    """
    rng = np.random.default_rng(seed)
    result = frames.copy()
    tile_h, tile_w = max(1, frames.shape[1] // _TILES), max(1, frames.shape[2] // _TILES)
    places = [
        (top, left)
        for top in range(0, frames.shape[1] - tile_h + 1, tile_h)
        for left in range(0, frames.shape[2] - tile_w + 1, tile_w)
    ]
    for index in range(len(frames)):
        sources = rng.permutation(len(places))
        for (top, left), source in zip(places, sources, strict=True):
            from_top, from_left = places[source]
            tile = frames[index, from_top : from_top + tile_h, from_left : from_left + tile_w]
            result[index, top : top + tile_h, left : left + tile_w] = tile
    return result


def _checked(path: Path) -> VideoInfo:
    info = probe(path)
    if info.num_frames < 2:
        raise MediaError(f"{path} has one frame; a study needs videos of at least two, so leave this prompt out")
    return info
