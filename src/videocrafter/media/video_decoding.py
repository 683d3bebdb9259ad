"""Decode frames of video files at given times, and no more frames than necessary (PyAV)."""

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

# A file named .mp4 may be a playlist that makes the reader open other files or addresses. Only real containers are
# opened, and only this one file is read.
_OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,matroska,webm,avi,gif,apng,mpegts,mpeg,flv,asf,ogg",
}
# Chroma has half the resolution; interpolate it instead of repeating it.
_TO_RGB = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
# Bytes per read from a Python file object; larger reads would fetch what a seek then skips.
_BUFFER_BYTES = 1 << 17
_FRAMES_WORTH_A_SEEK = 12


@contextmanager
def open_video(source: Path | BinaryIO, name: str | None = None) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the first video stream of a file.

    Args:
        source: a path, or a seekable binary file object.
        name: name of the file in error messages; None for its path.

    Raises:
        MediaError: the file is missing, is not a video, or turns out to be damaged while it is read.
    """
    name = name or str(source)
    if isinstance(source, Path) and not source.is_file():
        raise MediaError(f"{name} does not exist or is not a file; pass the path of a video")
    file = f"file:{source}" if isinstance(source, Path) else source
    try:
        with av.open(file, "r", options=_OPEN_OPTIONS, buffer_size=_BUFFER_BYTES) as container:
            if not container.streams.video:
                raise NoVideoStreamError(f"{name} has no video stream; use an mp4, webm, mkv, avi or gif")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise MediaError(
                    f"{name} is damaged, or uses a codec that this build of PyAV does not support; convert it to mp4"
                )
            yield container, stream
    except (av.FFmpegError, OSError) as error:
        raise MediaError(
            f"{name} cannot be read as a video ({error.strerror or error}); it may be damaged, truncated, "
            "or of an unsupported format: use an mp4, webm, mkv, avi or gif"
        ) from error


class NoVideoStreamError(MediaError):
    """The file is intact, but contains only sound or subtitles."""


class NoFramesError(MediaError):
    """No frame of the video stream can be decoded."""


class DecodingTimeError(MediaError):
    """Decoding took longer than its time limit."""


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

    Times may come in any order and more than once; each frame is decoded once if the order of the file allows it.
    A time past the last frame returns the last frame.
    """
    cursor = FrameCursor(container, stream)
    # A webm rounds time stamps to the nearest millisecond: 2/3 s must find the frame at 0.667 s.
    rounding_s = 0.0005 if container.format.name == "matroska,webm" else 0.0
    ticks = [cursor.tick(time_s + rounding_s) for time_s in times_s]
    found = {tick: to_rgb(cursor.frame_at(tick)) for tick in sorted(set(ticks))}
    return [found[tick] for tick in ticks]


class FrameCursor:
    """Walks forward through a video and seeks only where that saves decoding.

    Args:
        deadline: time of `time.monotonic` at which decoding gives up; None for no limit. It is checked between
            frames, so a decoder that hangs within one frame has to be stopped from outside.
    """

    saw_damage = False
    """Whether the decoder had to conceal errors in a frame."""

    def __init__(self, container: InputContainer, stream: VideoStream, deadline: float | None = None) -> None:
        if stream.time_base is None:
            raise MediaError(
                f"{container.name} has no time stamps, so frames cannot be found by time; convert it to mp4"
            )
        self._container, self._stream, self._deadline = container, stream, deadline
        self._ticks_per_s = 1 / float(stream.time_base)
        self._first_tick = stream.start_time or 0
        self._worth_a_seek = _FRAMES_WORTH_A_SEEK * self._ticks_per_s / float(stream.average_rate or 25)
        self._frames: Iterator[av.VideoFrame] | None = None
        self._current: av.VideoFrame | None = None
        self._ahead: av.VideoFrame | None = None

    def tick(self, time_s: float) -> int:
        """Return the time stamp `time_s` seconds after the start."""
        # Rounded up by less than a tick: 1/3 s must find the frame whose time stamp is 1/3 s rounded down.
        return self._first_tick + int(time_s * self._ticks_per_s + 1e-3)

    def frame_at(self, tick: int) -> av.VideoFrame:
        """Return the frame with the latest time stamp up to `tick`, or the first frame. Ticks must not decrease.

        Raises:
            MediaError: no frame can be decoded, or the deadline has passed.
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
        """Return how many seconds `tick` is past the end of the last frame; 0 if it is not."""
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
        # A seek discards the frames that the decoder holds back for reordering, so skipping a few gains nothing. The
        # index is in decoding order, which runs a little ahead of display order; `_seek` notices when it went too
        # far.
        return self._keyframe_before(tick) > self._time_stamp(self._ahead) + self._worth_a_seek

    def _keyframe_before(self, tick: int) -> int:
        """Return the time stamp, in decoding order, of the last keyframe up to `tick` in the file's index."""
        entries = self._stream.index_entries
        position = entries.search_timestamp(tick, backward=True)
        return entries[position].timestamp if position >= 0 else self._first_tick

    def _seek(self, tick: int) -> None:
        """Seek to the last keyframe up to `tick`; if the index leads past it, seek a few seconds further back."""
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
                f"{self._container.name} contains no frame that can be decoded; it may be damaged or truncated"
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
            raise MediaError(f"{self._container.name} has frames without time stamps; convert it to mp4")
        return frame.pts


def _decode(container: InputContainer, stream: VideoStream, deadline: float | None = None) -> Iterator[av.VideoFrame]:
    for packet in container.demux(stream):
        if deadline is not None and time.monotonic() > deadline:
            raise DecodingTimeError(f"{container.name} takes too long to decode; convert it to mp4 (H.264)")
        yield from packet.decode()


def to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """Convert a frame to `[H, W, 3]` uint8, upright."""
    pixels = frame.to_ndarray(format="rgb24", interpolation=_TO_RGB)
    # Phones store upright videos on their side, with the angle to rotate them (counterclockwise, in degrees).
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
