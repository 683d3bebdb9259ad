"""Shrink a frame for the measurements that every frame needs, at a fraction of the cost of decoding it.

Sides are halved until the picture is small: the mean of 2 × 2 pixels is by far the fastest reduction, and is done on
the planes as they are stored, before any conversion of colours.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from videocrafter.media.framing import Framing
from videocrafter.media.shown_frame import Orientation
from videocrafter.media.stored_planes import StoredPlanes
from videocrafter.media.video_reader import WalkedFrame

# Luma has at most this many pixels along its long side, and more than half of it unless the video itself is smaller.
_LONG_SIDE = 256


class SmallPicture(NamedTuple):
    """A frame as displayed, but for the aspect ratio of its pixels.

    Attributes:
        large: luma with 257 to 512 pixels along the long side; see `gray`.
        luma: luma with 129 to 256 pixels, of the range in which the video stores it: 16 to 235, or 0 to 255.
        half: luma at half of that size, `[h, w]`.
        rgb: `[h, w, 3]` uint8.
        luma_step, luma_black: what one level of luma stands for, in a range of 0 to 255, and the level of black.
    """

    large: np.ndarray
    luma: np.ndarray
    half: np.ndarray
    rgb: np.ndarray
    luma_step: float
    luma_black: float

    def gray(self, height: int, width: int) -> np.ndarray:
        """Return luma from 0 to 255 in a size of up to 256 pixels, `[height, width]` uint8."""
        gray = cv2.resize(self.large, (width, height), interpolation=cv2.INTER_LINEAR)
        if self.luma_step == 1:
            return gray
        return cv2.LUT(gray, _full_range(self.luma_step, self.luma_black))


@cache
def _full_range(step: float, black: float) -> np.ndarray:
    levels: np.ndarray = np.clip((np.arange(256) - black) * step + 0.5, 0, 255).astype(np.uint8)
    return levels


class Shrinker:
    """Shrinks the frames of a walk, all to the size of the first one and with its orientation."""

    def __init__(self) -> None:
        self._size: tuple[int, int] | None = None
        self._orientation = Orientation()

    def shrink(self, frame: WalkedFrame) -> SmallPicture:
        """Return a small picture of a frame."""
        planes = frame.planes()
        picture = _of_pixels(frame) if planes is None else _of_planes(planes)
        if self._size is None:
            self._size = (picture.luma.shape[0], picture.luma.shape[1])
            self._orientation = Orientation() if planes is None else frame.orientation
        if picture.luma.shape != self._size:
            picture = _scaled(picture, *self._size)
        return picture if self._orientation == Orientation() else _turned(picture, self._orientation)


def _of_planes(planes: StoredPlanes) -> SmallPicture:
    large, luma = _reduced(planes.luma)
    half = _halved(luma)
    yuv = cv2.merge([half, *(_fitted(plane, half.shape) for plane in planes.chroma)])
    return SmallPicture(large, luma, half, cv2.transform(yuv, planes.to_rgb), planes.luma_step, planes.luma_black)


def _of_pixels(frame: WalkedFrame) -> SmallPicture:
    """Return a picture by way of RGB, which is slower but exact for every format."""
    pixels = frame.pixels(_framing(*frame.size))
    large, luma = _reduced(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
    half = _halved(luma)
    return SmallPicture(
        large, luma, half, cv2.resize(pixels, half.shape[::-1], interpolation=cv2.INTER_AREA), 1.0, 0.0
    )


def _reduced(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return luma of less than twice the size, and of the size."""
    large = luma
    while max(luma.shape) > _LONG_SIDE:
        large, luma = luma, _halved(luma)
    return large, luma


def _scaled(picture: SmallPicture, height: int, width: int) -> SmallPicture:
    """Return a picture in the size of another one, after the size changed within the stream."""
    half = (width // 2, height // 2)
    return picture._replace(
        luma=cv2.resize(picture.luma, (width, height), interpolation=cv2.INTER_AREA),
        half=cv2.resize(picture.half, half, interpolation=cv2.INTER_AREA),
        rgb=cv2.resize(picture.rgb, half, interpolation=cv2.INTER_AREA),
    )


def _framing(height: int, width: int) -> Framing:
    while max(height, width) > 2 * _LONG_SIDE:
        height, width = height // 2, width // 2
    return Framing(height=height, width=width)


def _halved(pixels: np.ndarray) -> np.ndarray:
    """Return means of 2 × 2 pixels; an odd last row or column is left out."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    even = pixels[: 2 * height, : 2 * width]
    return cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)


def _fitted(plane: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return a plane of chroma in the size of luma."""
    while plane.shape[0] >= 2 * size[0] and plane.shape[1] >= 2 * size[1]:
        plane = _halved(plane)
    if plane.shape[0] >= 2 * size[0] or plane.shape[1] >= 2 * size[1]:
        # Chroma that has half the width of luma, and its height.
        return cv2.resize(plane, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return plane[: size[0], : size[1]]


def _turned(picture: SmallPicture, orientation: Orientation) -> SmallPicture:
    large, luma, half, *colours = (
        np.ascontiguousarray(orientation.apply(plane))
        for plane in (picture.large, picture.luma, picture.half, *cv2.split(picture.rgb))
    )
    return picture._replace(large=large, luma=luma, half=half, rgb=cv2.merge(colours))
