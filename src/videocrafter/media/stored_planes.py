"""Luma and chroma of a decoded frame as they are stored, without a copy: the cheapest view of a frame."""

from functools import cache
from typing import NamedTuple, cast

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

# Eight bits per sample, without transparency.
_FULL_RANGE = ("yuvj420p", "yuvj422p", "yuvj444p")
_FORMATS = ("yuv420p", "yuv422p", "yuv444p", *_FULL_RANGE)
# Weights of red and blue in luma: ITU-R BT.709, BT.2020 and, for all others, BT.601.
_RED_AND_BLUE = {int(Colorspace.ITU709): (0.2126, 0.0722), int(Colorspace.BT2020): (0.2627, 0.0593)}
_BT601 = (0.299, 0.114)


class StoredPlanes(NamedTuple):
    """A frame as it is stored: not rotated, pixels of any aspect ratio. Valid as long as the frame.

    Attributes:
        luma: `[H, W]` uint8.
        chroma: both planes, `[h, w]` uint8, of the same or half the size.
        to_rgb: `[3, 4]` float32; multiplied with luma, both chromas and 1, it gives red, green and blue, 0 to 255.
        luma_step, luma_black: what one level of luma stands for, in a range of 0 to 255, and the level of black.
    """

    luma: np.ndarray
    chroma: tuple[np.ndarray, np.ndarray]
    to_rgb: np.ndarray
    luma_step: float
    luma_black: float


def stored_planes(frame: av.VideoFrame, colours: Colorspace | None) -> StoredPlanes | None:
    """Return the planes of a frame; None if its format is not planar YUV of 8 bits without transparency.

    Args:
        colours: matrix of the frame; None takes the stated one, or BT.601.
    """
    if frame.format.name not in _FORMATS:
        return None
    luma, *chroma = (
        np.ndarray((plane.height, plane.width), np.uint8, cast(memoryview, plane), 0, (plane.line_size, 1))
        for plane in frame.planes
    )
    is_full = frame.format.name in _FULL_RANGE or frame.color_range == ColorRange.JPEG
    matrix = _to_rgb(int(frame.colorspace if colours is None else colours), is_full)
    step, black = (1.0, 0.0) if is_full else (255 / 219, 16.0)
    return StoredPlanes(luma, (chroma[0], chroma[1]), matrix, step, black)


@cache
def _to_rgb(colours: int, is_full: bool) -> np.ndarray:
    red, blue = _RED_AND_BLUE.get(colours, _BT601)
    green = 1 - red - blue
    from_u, from_v = 2 * (1 - blue), 2 * (1 - red)
    matrix = np.array(
        [[1, 0, from_v], [1, -from_u * blue / green, -from_v * red / green], [1, from_u, 0]], np.float32
    )
    black = 0 if is_full else 16
    if not is_full:
        matrix *= np.array([255 / 219, 255 / 224, 255 / 224], np.float32)
    return np.column_stack([matrix, -matrix @ np.array([black, 128, 128], np.float32)])
