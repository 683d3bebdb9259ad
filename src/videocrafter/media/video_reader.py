"""An open video whose frames are decoded on demand, at a given size."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.video.reformatter import ColorTrc

from videocrafter.media.errors import UnusableMediaError
from videocrafter.media.framing import Framer, Framing
from videocrafter.media.open_video import MAX_FRAME_PIXELS, OpenVideo, open_video
from videocrafter.media.shown_frame import FrameConverter, Orientation, assumed_colours, orientation
from videocrafter.media.stored_planes import StoredPlanes, stored_planes
from videocrafter.media.video_decoding import FrameCursor
from videocrafter.media.video_timing import Timing, stated_duration

# A lower rate is a slide show, a higher one a damaged header.
_SLOWEST_FPS, _FASTEST_FPS = 0.5, 480.0


# Audio tracks and edit lists move the end a little.
_TOLERATED_LOSS_S = 0.25
_HIGH_DYNAMIC_RANGE = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)


class WalkedFrame:
    """A frame of a walk through a video, converted only when asked. Valid until the next frame.

    Attributes:
        time_s: seconds from the first frame until it appears.
        is_damaged: whether the decoder had to conceal errors in it.
    """

    def __init__(self, time_s: float, frame: av.VideoFrame, converter: FrameConverter) -> None:
        self.time_s, self.is_damaged = time_s, frame.is_corrupt
        self._frame, self._converter = frame, converter

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as displayed: rotated, with square pixels."""
        return self._converter.shown_size(self._frame)

    def pixels(self, framing: Framing) -> np.ndarray:
        """Return the frame as displayed, scaled and cropped, `[H, W, 3]` uint8."""
        pixels = np.empty((framing.height, framing.width, 3), np.uint8)
        self._converter.convert(self._frame, framing, pixels)
        return pixels

    def planes(self) -> StoredPlanes | None:
        """Return luma and chroma without a copy; None if the frame is not stored as planes of 8 bits."""
        return stored_planes(self._frame, assumed_colours(self._frame))

    @property
    def orientation(self) -> Orientation:
        """Rotation and mirroring of the stored planes for display."""
        return orientation(self._frame)


@contextmanager
def open_reader(
    source: Path | BinaryIO,
    name: str | None = None,
    *,
    time_limit_s: float | None = None,
    max_pixels: int = MAX_FRAME_PIXELS,
    threads: int = 1,
    strict: bool = True,
) -> Iterator["VideoReader"]:
    """Open a video for reading frames by time.

    Args:
        source: a path, or a seekable binary file object.
        name: name of the file in error messages; None for its path.
        time_limit_s: seconds from now until decoding gives up. It is checked between frames, so a decoder that hangs
            within one frame has to be stopped from outside.
        max_pixels: largest number of pixels of a frame to decode.
        threads: number of decoder threads.
        strict: whether to refuse files that cannot be trusted, for unchecked data: frame rates and aspect ratios that
            no camera has, damaged frames, and files that end before their stated end. Otherwise, the last frame stays
            on screen after the end.

    Raises:
        UnusableMediaError: the file is missing, not a video, damaged, truncated, too slow, or of an absurd size.
    """
    with open_video(source, name, time_limit_s=time_limit_s, max_pixels=max_pixels, threads=threads) as video:
        yield VideoReader(video, strict=strict)


class VideoReader:
    """An open video.

    Rotation, mirroring, pixel aspect ratio and colours are applied as players do; transparency is white.

    Attributes:
        timing: length and rate of the frames that a player shows.
    """

    def __init__(self, video: OpenVideo, *, strict: bool = True) -> None:
        self._video, self._strict = video, strict
        self._cursor = FrameCursor(video)
        self._converter = FrameConverter(video, strict=strict)
        self._size: tuple[int, int] | None = None
        self.timing = self._cursor.timing
        if strict:
            self.timing = _with_lost_end(video, self.timing)
            if not _SLOWEST_FPS <= self.fps <= _FASTEST_FPS:
                raise UnusableMediaError(
                    "no_rate",
                    f"{video.name} has {self.fps:g} frames per second; "
                    f"videos of {_SLOWEST_FPS:g} to {_FASTEST_FPS:g} are accepted",
                )

    @property
    def fps(self) -> float:
        """Frames per second. If the rate varies: without pauses, in which one frame stays on screen for long."""
        return self.timing.fps

    @property
    def num_frames(self) -> int:
        """Number of frames that a player shows; a truncated file contains fewer."""
        return self.timing.num_frames

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.timing.duration_s

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as displayed: rotated, with square pixels. Decodes a frame."""
        if self._size is None:
            self._size = self._converter.shown_size(self._cursor.frame_at(self._cursor.tick(0)))
        return self._size

    @property
    def is_high_dynamic_range(self) -> bool:
        """Whether the colours are for HDR screens (PQ or HLG). Decodes a frame."""
        return self._cursor.frame_at(self._cursor.tick(0)).color_trc in _HIGH_DYNAMIC_RANGE

    @property
    def codec(self) -> str:
        """Name of the codec, as FFmpeg spells it."""
        return self._video.stream.codec_context.name

    @property
    def bit_rate(self) -> float:
        """Bits per second of the video stream; if that is not stated, of the file."""
        return self._video.stream.bit_rate or self._video.container.size * 8 / max(self.duration_s, 1e-3)

    def walk(self, *, start_s: float = 0.0) -> Iterator[WalkedFrame]:
        """Yield every frame once, from the one on screen at `start_s` on.

        Raises:
            UnusableMediaError: the video cannot be decoded any further or, if strict, ends before its stated end.
        """
        end_s = 0.0
        for tick, frame in self._cursor.stamped_frames(self._cursor.tick(start_s)):
            end_s = self._cursor.seconds_at(tick)
            yield WalkedFrame(end_s, frame, self._converter)
        if self._strict and end_s + 1.75 / self.fps < self.duration_s - _TOLERATED_LOSS_S:
            raise UnusableMediaError(
                "truncated",
                f"{self._video.name} ends after {end_s:.3g} of its stated {self.duration_s:.3g} s; "
                "it may be truncated",
            )

    def frames_at(self, times_s: Sequence[float], framer: Framer | None = None) -> np.ndarray:
        """Return the frames on screen at these times, `[T, H, W, 3]` uint8.

        Reads and decodes only near these times.

        Args:
            times_s: seconds from the first frame, at least one; increasing times are read fastest.
            framer: chooses scale and crop; None keeps the displayed size.

        Raises:
            UnusableMediaError: the video is damaged where it is read, or, if strict, ends before a time.
        """
        framing: Framing | None = None
        pictures = np.empty(0, np.uint8)
        shown: av.VideoFrame | None = None
        for index, time_s in enumerate(times_s):
            tick = self._cursor.tick(time_s)
            frame = self._cursor.frame_at(tick)
            self._check_damage(tick)
            if framing is None:
                framing = self._framing(frame, framer)
                pictures = np.empty((len(times_s), framing.height, framing.width, 3), np.uint8)
            if frame is shown:
                pictures[index] = pictures[index - 1]
            else:
                self._converter.convert(frame, framing, pictures[index])
                shown = frame
        return pictures

    def first_frames(self, max_frames: int | None = None) -> np.ndarray:
        """Return the first `max_frames` frames, or all, `[T, H, W, 3]` uint8."""
        return np.stack(list(islice(self.frames(), max_frames)))

    def frames(self) -> Iterator[np.ndarray]:
        """Yield all frames in order, `[H, W, 3]` uint8, all of the size of the first one; holds one at a time.

        Raises:
            UnusableMediaError: the video is damaged, or ends before its stated end, if strict.
        """
        framing: Framing | None = None
        for frame in self._cursor.frames():
            framing = framing or self._framing(frame, None)
            picture = np.empty((framing.height, framing.width, 3), np.uint8)
            self._converter.convert(frame, framing, picture)
            yield picture
        self._check_damage(self._cursor.tick(max(0.0, self.duration_s - 0.5 / self.fps)))

    def _framing(self, frame: av.VideoFrame, framer: Framer | None) -> Framing:
        height, width = self._converter.shown_size(frame)
        return framer(height, width) if framer else Framing(height=height, width=width)

    def _check_damage(self, tick: int) -> None:
        if not self._strict:
            return
        # Rounded time stamps may be half a frame off, and the last frame may be shorter than the others.
        if self._cursor.seconds_past_end(tick) > 0.75 / self.fps:
            raise UnusableMediaError(
                "truncated", f"{self._video.name} ends before its stated {self.duration_s:.3g} s; it may be truncated"
            )
        if self._cursor.saw_damage:
            raise UnusableMediaError("unreadable", f"{self._video.name} is damaged at the requested times")


def _with_lost_end(video: OpenVideo, timing: Timing) -> Timing:
    """Return the length that a cut-off Matroska file states, so that reading past its real end is an error."""
    if video.format != "matroska,webm":
        return timing
    stated_s = stated_duration(video)
    if stated_s <= timing.duration_s + max(0.25, 2 / timing.fps):
        return timing
    return replace(timing, duration_s=stated_s, num_frames=round(stated_s * timing.fps))
