"""Frames out of video files, at given times, decoding no more than needed (PyAV)."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from videocrafter.media.errors import MediaError

# A file may call itself .mp4 and be a playlist that makes the reader open other files or addresses.
# Only real containers are opened, and only this one file is read.
_OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,matroska,webm,avi,gif,apng,mpegts,mpeg,flv,asf,ogg",
}
# Colour is stored at half the size; interpolate it rather than repeat it.
_TO_RGB = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
# Bytes asked for at a time from a Python file; more would read what a seek then skips.
_BUFFER_BYTES = 1 << 17
_FRAMES_WORTH_A_SEEK = 12


@contextmanager
def open_video(source: Path | BinaryIO, name: str | None = None) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the first video stream of a file.

    Args:
        source: its path, or the file itself, opened for reading bytes; it has to be able to seek.
        name: what messages call it; None for its path.

    Raises:
        MediaError: The file is missing, is no video, or turns out to be damaged while it is read.
    """
    name = name or str(source)
    if isinstance(source, Path) and not source.is_file():
        raise MediaError(f"{name} does not exist or is no file; give the path of a video")
    file = f"file:{source}" if isinstance(source, Path) else source
    try:
        with av.open(file, "r", options=_OPEN_OPTIONS, buffer_size=_BUFFER_BYTES) as container:
            if not container.streams.video:
                raise NoVideoStreamError(f"{name} holds no video stream; give an mp4, webm, mkv, avi or gif")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise MediaError(f"{name} is coded in a way that is not known here; it may be damaged, or convert it")
            yield container, stream
    except (av.FFmpegError, OSError) as error:
        raise MediaError(
            f"{name} cannot be read as a video ({error.strerror or error}); it may be damaged or cut off, "
            "or of a kind that is not supported: give an mp4, webm, mkv, avi or gif"
        ) from error


class NoVideoStreamError(MediaError):
    """The file is whole, but holds sound or subtitles only."""


class NoFramesError(MediaError):
    """A video stream out of which no frame comes."""


class DecodingTimeError(MediaError):
    """Decoding took longer than it was allowed to."""


def decode_first(container: InputContainer, stream: VideoStream, max_frames: int | None) -> list[np.ndarray]:
    """Decode the first `max_frames` frames, or all, each `[H, W, 3]` uint8."""
    pictures: list[np.ndarray] = []
    for frame in _decode(container, stream):
        if max_frames is not None and len(pictures) == max_frames:
            break
        pictures.append(to_rgb(frame))
    return pictures


def decode_at(container: InputContainer, stream: VideoStream, times_s: Sequence[float]) -> list[np.ndarray]:
    """Decode the frame on screen at each time (seconds from the first frame), each `[H, W, 3]` uint8.

    Times may come in any order and more than once; each frame is decoded once where the order of the file
    allows it. A time past the last frame gives the last frame.
    """
    cursor = FrameCursor(container, stream)
    ticks = [cursor.tick(time_s) for time_s in times_s]
    found = {tick: to_rgb(cursor.frame_at(tick)) for tick in sorted(set(ticks))}
    return [found[tick] for tick in ticks]


class FrameCursor:
    """Walks forward through a video and seeks only where that saves decoding.

    Args:
        deadline: when to give up, by `time.monotonic`; None never does. It is looked at between frames, so a
            decoder that hangs within one frame has to be stopped from outside.
    """

    saw_damage = False
    """Whether the decoder had to make up parts of a frame."""

    def __init__(self, container: InputContainer, stream: VideoStream, deadline: float | None = None) -> None:
        if stream.time_base is None:
            raise MediaError(f"{container.name} holds no time stamps, so no frame can be found by its time")
        self._container, self._stream, self._deadline = container, stream, deadline
        self._ticks_per_s = 1 / float(stream.time_base)
        self._first_tick = stream.start_time or 0
        self._worth_a_seek = _FRAMES_WORTH_A_SEEK * self._ticks_per_s / float(stream.average_rate or 25)
        self._frames: Iterator[av.VideoFrame] | None = None
        self._current: av.VideoFrame | None = None
        self._ahead: av.VideoFrame | None = None

    def tick(self, time_s: float) -> int:
        """The time stamp that lies `time_s` seconds behind the start."""
        # Rounded up by less than a tick: 1/3 s must find the frame whose time stamp is 1/3 s rounded down.
        return self._first_tick + int(time_s * self._ticks_per_s + 1e-3)

    def frame_at(self, tick: int) -> av.VideoFrame:
        """The frame with the latest time stamp up to `tick`, or the first one. Ticks must not fall.

        Raises:
            MediaError: no frame can be decoded, or time is up.
        """
        if self._frames is None:
            self._start(tick)
        elif self._keyframe_lies_ahead(tick):
            self._seek(tick)
        while self._ahead is not None and (self._current is None or self._time_stamp(self._ahead) <= tick):
            self._current, self._ahead = self._ahead, self._next()
        assert self._current is not None  # the first step of the loop always sets it
        return self._current

    def seconds_past_end(self, tick: int) -> float:
        """How far `tick` lies behind the end of the last frame, if the file ends before it; else 0."""
        if self._ahead is not None or self._current is None:
            return 0.0
        end = self._time_stamp(self._current) + (self._current.duration or 0)
        return max(0, tick - end) / self._ticks_per_s

    def _start(self, tick: int) -> None:
        if self._keyframe_before(tick) > self._first_tick:
            self._seek(tick)
        else:
            self._rewind()

    def _keyframe_lies_ahead(self, tick: int) -> bool:
        if self._ahead is None or self._time_stamp(self._ahead) >= tick:
            return False
        # A seek throws away what the decoder holds back for reordering, so a few frames are no gain. The index
        # counts in order of decoding, which runs a little ahead of the order of display; a seek that leads too
        # far is noticed in `_seek`.
        return self._keyframe_before(tick) > self._time_stamp(self._ahead) + self._worth_a_seek

    def _keyframe_before(self, tick: int) -> int:
        """Time stamp, in order of decoding, of the last keyframe up to `tick` that the file's index knows."""
        entries = self._stream.index_entries
        position = entries.search_timestamp(tick, backward=True)
        return entries[position].timestamp if position >= 0 else self._first_tick

    def _seek(self, tick: int) -> None:
        """Go to the last keyframe up to `tick`; where the index leads past it, a few seconds further back."""
        for seconds_back in (0, 2, 10):
            target = tick - round(seconds_back * self._ticks_per_s)
            if target <= self._first_tick:
                break
            self._container.seek(target, stream=self._stream)
            self._restart()
            if self._ahead is not None and self._time_stamp(self._ahead) <= tick:
                return
        self._rewind()

    def _rewind(self) -> None:
        if self._frames is not None:
            self._container.seek(self._first_tick, stream=self._stream)
        self._restart()
        if self._ahead is None:
            raise NoFramesError(
                f"{self._container.name} holds no frame that can be decoded; it may be damaged or cut off"
            )

    def _restart(self) -> None:
        self._frames = _decode(self._container, self._stream, self._deadline)
        self._current, self._ahead = None, self._next()

    def _next(self) -> av.VideoFrame | None:
        assert self._frames is not None
        frame = next(self._frames, None)
        self.saw_damage |= frame is not None and frame.is_corrupt
        return frame

    def _time_stamp(self, frame: av.VideoFrame) -> int:
        if frame.pts is None:
            raise MediaError(f"{self._container.name} holds frames without time stamps; convert it to mp4")
        return frame.pts


def _decode(container: InputContainer, stream: VideoStream, deadline: float | None = None) -> Iterator[av.VideoFrame]:
    for packet in container.demux(stream):
        if deadline is not None and time.monotonic() > deadline:
            raise DecodingTimeError(f"{container.name} takes too long to decode; convert it to mp4 (H.264)")
        yield from packet.decode()


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """Turn a frame into `[H, W, 3]` uint8, upright."""
    pixels = frame.to_ndarray(format="rgb24", interpolation=_TO_RGB)
    # Phones store upright videos lying down, with a note to turn them (counterclockwise, in degrees).
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
