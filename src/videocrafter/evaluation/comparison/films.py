"""Frames of a video as pictures for a page: tiles of a few WebP images, exact to the frame in every browser.

A video element shows frames when it likes: two of them drift apart, and seeking to a frame may show its neighbour. A
page that draws tiles decides itself which frame is on screen, needs no codec, and works from a file.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from videocrafter.media.video_file import read_clip

Frames = NDArray[np.uint8]

LAYOUT_VERSION = 1
"""Raise it with every change of the pictures, so that nobody keeps those of an older version."""

# WebP allows 16383 pixels per side, and phones decode pictures of about 16 million pixels.
_MOST_TILES, _WIDEST, _MOST_PIXELS = 32, 4096, 16_000_000
# Below this, every pixel counts, and lossless pictures stay small.
_LOSSLESS_SIDE = 128
_QUALITY = 90


@dataclass(frozen=True, kw_only=True)
class Film:
    """A video as tiles.

    Attributes:
        pictures: WebP files, each with up to `tiles` frames in rows of `across`.
        tiles, across: see above.
        num_frames: of the film.
        height, width: of a tile.
        fps: frames per second.
        shape: height and width of the video itself.
    """

    pictures: tuple[bytes, ...]
    tiles: int
    across: int
    num_frames: int
    height: int
    width: int
    fps: float
    shape: tuple[int, int]


def read_shown(path: Path, size: int, max_frames: int) -> tuple[Frames, float, tuple[int, int]]:
    """Return frames [T, H, W, 3] whose longer side is at most `size`, their rate, and the video's own shape.

    Raises:
        MediaError: the video cannot be read.
    """
    clip = read_clip(path, max_frames)
    height, width = clip.frames.shape[1:3]
    return shrink(clip.frames, *shown_shape(height, width, size)), clip.fps, (height, width)


def shrink(frames: Iterable[Frames], height: int, width: int) -> Frames:
    """Return frames [T, height, width, 3], each scaled as it is read: all at full size may need much memory."""
    return np.stack(
        [
            frame
            if frame.shape[:2] == (height, width)
            else np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))
            for frame in frames
        ]
    )


def shown_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Return height and width of a video whose longer side is scaled down to at most `size` pixels."""
    scale = min(1.0, size / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def tile_layout(num_frames: int, height: int, width: int) -> tuple[int, int]:
    """Return how many frames of this shape one picture holds, and how many of them form a row."""
    tiles = max(1, min(num_frames, _MOST_TILES, _MOST_PIXELS // (height * width)))
    return tiles, max(1, min(num_frames, _WIDEST // width, 8))


def make_film(frames: Frames, fps: float, shape: tuple[int, int]) -> Film:
    """Lay frames [T, H, W, 3] out as tiles and encode them."""
    height, width = frames.shape[1:3]
    tiles, across = tile_layout(len(frames), height, width)
    pictures = [_encode(_tiled(frames[start : start + tiles], across)) for start in range(0, len(frames), tiles)]
    return Film(
        pictures=tuple(pictures),
        tiles=tiles,
        across=across,
        num_frames=len(frames),
        height=height,
        width=width,
        fps=fps,
        shape=shape,
    )


def encode_picture(pixels: Frames) -> bytes:
    """Encode an image [H, W, 3] as WebP: lossless if it is small."""
    return _encode(pixels, lossless=max(pixels.shape[:2]) <= _LOSSLESS_SIDE)


def _tiled(frames: Frames, across: int) -> Frames:
    height, width = frames.shape[1:3]
    picture = np.zeros((-(-len(frames) // across) * height, across * width, 3), np.uint8)
    for index, frame in enumerate(frames):
        top, left = index // across * height, index % across * width
        picture[top : top + height, left : left + width] = frame
    return picture


def _encode(pixels: Frames, *, lossless: bool | None = None) -> bytes:
    # Tiles are compressed as one picture, so the size of a tile does not matter here; callers decide for stills.
    buffer = io.BytesIO()
    small = pixels.shape[0] * pixels.shape[1] <= _MOST_TILES * _LOSSLESS_SIDE**2
    image = Image.fromarray(pixels)
    image.save(buffer, format="WEBP", lossless=small if lossless is None else lossless, quality=_QUALITY, method=4)
    return buffer.getvalue()
