"""An open video whose frames are decoded on demand, at a given size.

Stricter than `read_frames`, because it reads unchecked files: a file that cannot be trusted is refused with a reason
that can be counted.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from videocrafter.media.errors import MediaError
from videocrafter.media.framing import MAX_ASPECT, Framer, Framing
from videocrafter.media.image_file import MAX_PIXELS
from videocrafter.media.video_decoding import (
    DecodingTimeError,
    FrameCursor,
    NoFramesError,
    NoVideoStreamError,
    open_video,
)

Reason = Literal[
    "missing", "unreadable", "truncated", "no_frames", "audio_only", "absurd_size", "no_rate", "too_slow"
]

# A lower rate is a slide show, a higher one a damaged header.
_SLOWEST_FPS, _FASTEST_FPS = 0.5, 480.0
# The widest pixels in use (anamorphic cinema has 2).
_MAX_PIXEL_ASPECT = 4.0
# Without these flags, colours are two levels too dark.
_EXACT = Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND


class UnusableMediaError(MediaError):
    """A file that contains no trustworthy frames; `reason` is a one-word category."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


@contextmanager
def open_reader(
    source: Path | BinaryIO,
    name: str | None = None,
    *,
    time_limit_s: float | None = None,
    max_pixels: int = MAX_PIXELS,
    threads: int = 1,
) -> Iterator["VideoReader"]:
    """Open a video for reading frames by time.

    Args:
        source: a path, or a binary file object.
        name: name of the file in error messages.
        time_limit_s: seconds from now until decoding gives up, checked between frames.
        max_pixels: largest number of pixels of a frame to decode.
        threads: number of decoder threads.

    Raises:
        UnusableMediaError: the file is missing, not a video, damaged, truncated, too slow, or of an absurd size.
    """
    name = name or str(source)
    deadline = None if time_limit_s is None else time.monotonic() + time_limit_s
    if isinstance(source, Path) and not source.is_file():
        raise UnusableMediaError("missing", f"{name} does not exist or is not a file")
    try:
        with open_video(source, name) as (container, stream):
            codec = stream.codec_context
            if codec.width * codec.height > max_pixels:
                raise _absurd(name, codec.height, codec.width)
            # The decoder checks it too, because the stream may contradict its container.
            codec.options = {"max_pixels": str(max_pixels)}
            codec.thread_count = threads
            yield VideoReader(container, stream, name, deadline)
    except UnusableMediaError:
        raise
    except MediaError as error:
        raise UnusableMediaError(_reason_of(error), str(error)) from error
    except (ArithmeticError, LookupError, MemoryError, TypeError, UnicodeError, ValueError, av.FFmpegError) as error:
        # PyAV raises these when a header contains nonsensical numbers.
        raise UnusableMediaError("unreadable", f"{name} cannot be read as a video ({error})") from error


class VideoReader:
    """An open video.

    Attributes:
        fps: average frames per second.
        num_frames: number of frames according to the container; a truncated file contains fewer.
        duration_s: length in seconds.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, name: str, deadline: float | None) -> None:
        self._container, self._stream, self._name, self._deadline = container, stream, name, deadline
        # Reused, because setting one up for a size costs a quarter of a conversion.
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None
        self._fresh = True
        self.num_frames, self.duration_s = self._length()
        self.fps = self.num_frames / self.duration_s
        if not _SLOWEST_FPS <= self.fps <= _FASTEST_FPS:
            raise UnusableMediaError(
                "no_rate",
                f"{name} states {self.fps:g} frames per second; "
                f"videos of {_SLOWEST_FPS:g} to {_FASTEST_FPS:g} are accepted",
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as displayed: rotated, with square pixels. Decodes a frame."""
        if self._size is None:
            self._size = self._shown_size(self._cursor().frame_at(0))
        return self._size

    def frames_at(self, times_s: Sequence[float], framer: Framer | None = None) -> np.ndarray:
        """Return the frames on screen at these times, `[T, H, W, 3]` uint8, upright, transparency over white.

        Reads and decodes only near these times.

        Args:
            times_s: seconds from the first frame, in increasing order, at least one.
            framer: chooses scale and crop; None keeps the displayed size.

        Raises:
            UnusableMediaError: the video ends before a time, or is damaged where it is read.
        """
        cursor = self._cursor()
        framing: Framing | None = None
        pictures = np.empty(0, np.uint8)
        shown: av.VideoFrame | None = None
        for index, time_s in enumerate(times_s):
            tick = cursor.tick(time_s)
            frame = cursor.frame_at(tick)
            self._check_end(cursor, tick)
            if framing is None:
                height, width = self._shown_size(frame)
                framing = framer(height, width) if framer else Framing(height=height, width=width)
                pictures = np.empty((len(times_s), framing.height, framing.width, 3), np.uint8)
            if frame is shown:
                pictures[index] = pictures[index - 1]
            else:
                self._frame_into(pictures[index], frame, framing)
                shown = frame
        return pictures

    def _frame_into(self, pixels: np.ndarray, frame: av.VideoFrame, framing: Framing) -> None:
        """Fill `[H, W, 3]`: scale and convert to RGB in one step, then rotate and crop."""
        self._shown_size(frame)  # the size may change within a stream, also to an absurd one
        turns = _quarter_turns(frame)
        shown = frame.height, frame.width * _pixel_aspect(self._stream)
        height, width = framing.filling_size(*(shown[::-1] if turns % 2 else shown))
        if turns % 2:
            height, width = width, height
        planes = _planes(self._reformatter, frame, height, width)
        colours = [framing.cut(np.rot90(plane, turns)) for plane in planes]
        for channel, colour in enumerate(colours[:3]):
            pixels[..., channel] = colour
        if len(colours) == 4:
            opacity = colours[3][..., None].astype(np.uint16)
            pixels[:] = (pixels * opacity + 255 * (255 - opacity) + 127) // 255

    def _cursor(self) -> FrameCursor:
        if not self._fresh:
            self._container.seek(self._stream.start_time or 0, stream=self._stream)
        self._fresh = False
        return FrameCursor(self._container, self._stream, self._deadline)

    def _length(self) -> tuple[int, float]:
        stream = self._stream
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        duration_s = self._stated_duration()
        num_frames = stream.frames
        if num_frames <= 0 and not (rate > 0 and duration_s > 0):
            num_frames, duration_s = self._count_packets()
        elif num_frames <= 0:
            num_frames = int(duration_s * rate + 0.01)
        elif duration_s <= 0 and rate > 0:
            duration_s = num_frames / rate
        if num_frames <= 0:
            raise UnusableMediaError("no_frames", f"{self._name} contains no frames; it may be damaged or truncated")
        if not (math.isfinite(duration_s) and duration_s > 0):
            raise UnusableMediaError("no_rate", f"{self._name} does not state its frame rate; convert it to mp4")
        return num_frames, duration_s

    def _stated_duration(self) -> float:
        """Return the length of the video stream in seconds according to the container, or 0 if it is not stated."""
        stream, container = self._stream, self._container
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        if tag := stream.metadata.get("DURATION"):  # Matroska: 00:00:03.000000000
            parts = tag.split(":")
            with suppress(ValueError):
                return sum(float(part) * 60**power for power, part in enumerate(reversed(parts)))
        # With several streams, this is the length of the longest one, and sound may outlast the pictures.
        return (container.duration or 0) / 1_000_000 if len(container.streams) == 1 else 0.0

    def _count_packets(self) -> tuple[int, float]:
        """Count frames in a file without table of contents by reading it to its end, without decoding."""
        times = []
        for packet in self._container.demux(self._stream):
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise DecodingTimeError(f"{self._name} takes too long to read; convert it to mp4 (H.264)")
            if packet.pts is not None:
                times.append(packet.pts)
        self._container.seek(self._stream.start_time or 0, stream=self._stream)
        if len(times) < 2 or self._stream.time_base is None:
            return len(times), 0.0
        between = (max(times) - min(times)) / (len(times) - 1)
        return len(times), float(between * len(times) * self._stream.time_base)

    def _check_end(self, cursor: FrameCursor, tick: int) -> None:
        # Rounded time stamps may be half a frame off, and the last frame may be shorter than the others.
        if cursor.seconds_past_end(tick) > 0.75 / self.fps:
            raise UnusableMediaError(
                "truncated", f"{self._name} ends before its stated {self.duration_s:.3g} s; it may be truncated"
            )
        if cursor.saw_damage:
            raise UnusableMediaError("unreadable", f"{self._name} is damaged at the requested times")

    def _shown_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        if frame.width <= 0 or frame.height <= 0:
            raise _absurd(self._name, frame.height, frame.width)
        height, width = frame.height, round(frame.width * _pixel_aspect(self._stream))
        if max(height, width) > MAX_ASPECT * min(height, width):
            raise _absurd(self._name, frame.height, frame.width)
        return (width, height) if _quarter_turns(frame) % 2 else (height, width)


def _planes(reformatter: VideoReformatter, frame: av.VideoFrame, height: int, width: int) -> list[np.ndarray]:
    """Return the scaled red, green and blue planes, and alpha if present, each `[H, W]` uint8."""
    has_alpha = any(component.is_alpha for component in frame.format.components)
    # For shrinking, averaging pixels is both the fastest and the best method.
    shrinks = height <= frame.height and width <= frame.width
    scaled = reformatter.reformat(
        frame,
        height=height,
        width=width,
        # Planar, because FFmpeg is four times slower with interleaved pixels.
        format="gbrap" if has_alpha else "gbrp",
        interpolation=_EXACT | (Interpolation.AREA if shrinks else Interpolation.BICUBIC),
        threads=1,
    )
    green, blue, red, *opacity = (
        np.frombuffer(cast(memoryview, plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in scaled.planes
    )
    return [red, green, blue, *opacity]


def _quarter_turns(frame: av.VideoFrame) -> int:
    return round(frame.rotation / 90)


def _pixel_aspect(stream: VideoStream) -> float:
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / _MAX_PIXEL_ASPECT <= aspect <= _MAX_PIXEL_ASPECT else 1.0


def _absurd(name: str, height: int, width: int) -> UnusableMediaError:
    return UnusableMediaError(
        "absurd_size", f"{name} has frames of {width}x{height} pixels; its header may be damaged"
    )


def _reason_of(error: MediaError) -> Reason:
    if isinstance(error, NoVideoStreamError):
        return "audio_only"
    if isinstance(error, NoFramesError):
        return "no_frames"
    if isinstance(error, DecodingTimeError):
        return "too_slow"
    return "unreadable"
