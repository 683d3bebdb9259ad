"""Convert decoded frames to RGB as a player shows them: upright, with square pixels, in the right colours."""

import logging
from functools import cached_property, lru_cache
from typing import NamedTuple, cast

import av
import numpy as np
from av.video.reformatter import Colorspace, ColorTrc, Interpolation, VideoReformatter

from videocrafter.media.errors import UnusableMediaError
from videocrafter.media.framing import MAX_ASPECT, Framing
from videocrafter.media.open_video import OpenVideo

_log = logging.getLogger(__name__)

# The widest pixels in use (anamorphic cinema has 2).
_MAX_PIXEL_ASPECT = 4.0
# Without these flags, colours are two levels too dark.
_EXACT = Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
_UNSPECIFIED = 2
# Players assume the colours of standard definition up to this size, and of high definition above.
_MAX_SD_WIDTH, _MAX_SD_HEIGHT = 1279, 576


class Orientation(NamedTuple):
    """Mirroring of a stored frame for display: at the diagonal, then left and right, then top and bottom."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def apply(self, plane: np.ndarray) -> np.ndarray:
        """Return a stored plane `[H, W]` as it is displayed."""
        plane = plane.T if self.transpose else plane
        plane = plane[:, ::-1] if self.flip_x else plane
        return plane[::-1] if self.flip_y else plane


class FrameConverter:
    """Converts the frames of one video.

    Args:
        strict: whether frames with an absurd aspect ratio are refused.
    """

    def __init__(self, video: OpenVideo, *, strict: bool) -> None:
        self._video, self._strict = video, strict
        # Reused, because setting one up for a size costs a quarter of a conversion.
        self._reformatter = VideoReformatter()

    @cached_property
    def _pixel_aspect(self) -> float:
        aspect = float(self._video.stream.sample_aspect_ratio or 1)
        return aspect if 1 / _MAX_PIXEL_ASPECT <= aspect <= _MAX_PIXEL_ASPECT else 1.0

    def shown_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Return height and width of a frame as displayed."""
        height, width = frame.height, max(1, round(frame.width * self._pixel_aspect))
        is_strip = max(height, width) > MAX_ASPECT * min(height, width)
        if min(frame.width, frame.height) <= 0 or (self._strict and is_strip):
            raise UnusableMediaError(
                "absurd_size",
                f"{self._video.name} has frames of {frame.width}x{frame.height} pixels; its header may be damaged",
            )
        return (width, height) if orientation(frame).transpose else (height, width)

    def convert(self, frame: av.VideoFrame, framing: Framing, pixels: np.ndarray) -> None:
        """Fill `pixels` `[H, W, 3]` uint8: scale and convert in one step, rotate and crop; transparency is white."""
        # The size may change within a stream, also to an absurd one.
        height, width = framing.filling_size(*self.shown_size(frame))
        shown = orientation(frame)
        planes = self._planes(frame, *((width, height) if shown.transpose else (height, width)))
        colours = [framing.cut(shown.apply(plane)) for plane in planes]
        for channel, colour in enumerate(colours[:3]):
            pixels[..., channel] = colour
        if len(colours) == 4:
            opacity = colours[3][..., None].astype(np.uint16)
            pixels[:] = (pixels * opacity + 255 * (255 - opacity) + 127) // 255

    def _planes(self, frame: av.VideoFrame, height: int, width: int) -> list[np.ndarray]:
        """Return the scaled red, green and blue planes, and alpha if present, each `[H, W]` uint8."""
        if frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67):
            _note_high_dynamic_range(self._video.name)
        has_alpha = any(component.is_alpha for component in frame.format.components)
        # For shrinking, averaging pixels is both the fastest and the best method.
        shrinks = height <= frame.height and width <= frame.width
        scaled = self._reformatter.reformat(
            frame,
            height=height,
            width=width,
            # Planar, because FFmpeg is four times slower with interleaved pixels.
            format="gbrap" if has_alpha else "gbrp",
            interpolation=_EXACT | (Interpolation.AREA if shrinks else Interpolation.BICUBIC),
            src_colorspace=assumed_colours(frame),
            threads=1,
        )
        green, blue, red, *opacity = (
            np.frombuffer(cast(memoryview, plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
            for plane in scaled.planes
        )
        return [red, green, blue, *opacity]


def orientation(frame: av.VideoFrame) -> Orientation:
    """Return how a frame is rotated and mirrored for display, rounded to quarter turns.

    Phones store videos as the sensor sees them, and a matrix that maps stored to displayed coordinates.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation()
    # x' = a x + c y and y' = b x + d y
    a, b, _, c, d, *_ = np.frombuffer(bytes(cast(memoryview, data)), np.int32).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0)
    return Orientation(flip_x=a < 0, flip_y=d < 0)


def assumed_colours(frame: av.VideoFrame) -> Colorspace | None:
    """Return the YUV matrix of a frame that does not state it; None keeps the stated one, or assumes BT.601."""
    is_large = frame.width > _MAX_SD_WIDTH or frame.height > _MAX_SD_HEIGHT
    return Colorspace.ITU709 if frame.colorspace == _UNSPECIFIED and is_large else None


@lru_cache(maxsize=64)
def _note_high_dynamic_range(name: str) -> None:
    _log.warning("%s is a high-dynamic-range video (HDR), which will look pale; convert it to SDR first", name)
