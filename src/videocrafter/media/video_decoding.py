"""Frames out of video files, at given times, decoding no more than needed (PyAV)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the first video stream of `path`.

    Raises:
        MediaError: The file is missing, is no video, or turns out to be damaged while it is read.
    """
    if not path.is_file():
        raise MediaError(f"{path} does not exist or is no file; give the path of a video")
    try:
        with av.open(f"file:{path}", options=_OPEN_OPTIONS) as container:
            if not container.streams.video:
                raise MediaError(f"{path} holds no video stream; give an mp4, webm, mkv, avi or gif")
            yield container, container.streams.video[0]
    except (av.FFmpegError, OSError) as error:
        raise MediaError(
            f"{path} cannot be read as a video ({error.strerror or error}); it may be damaged or cut off, "
            "or of a kind that is not supported: give an mp4, webm, mkv, avi or gif"
        ) from error


def decode_first(container: InputContainer, stream: VideoStream, max_frames: int | None) -> list[np.ndarray]:
    """Decode the first `max_frames` frames, or all, each `[H, W, 3]` uint8."""
    pictures: list[np.ndarray] = []
    for frame in _decode(container, stream):
        if max_frames is not None and len(pictures) == max_frames:
            break
        pictures.append(_to_rgb(frame))
    return pictures


def decode_at(container: InputContainer, stream: VideoStream, times_s: Sequence[float]) -> list[np.ndarray]:
    """Decode the frame on screen at each time (seconds from the first frame), each `[H, W, 3]` uint8.

    Times may come in any order and more than once; each frame is decoded once where the order of the file
    allows it. A time past the last frame gives the last frame.
    """
    if stream.time_base is None:
        raise MediaError(f"{container.name} holds no time stamps, so no frame can be found by its time")
    start = stream.start_time or 0
    # Rounded up by less than a tick: 1/3 s must find the frame whose time stamp is 1/3 s rounded down.
    ticks = [start + int(time / float(stream.time_base) + 1e-3) for time in times_s]
    cursor = _Cursor(container, stream)
    found = {tick: cursor.frame_at(tick) for tick in sorted(set(ticks))}
    return [found[tick] for tick in ticks]


class _Cursor:
    """Walks forward through a video and seeks only where a keyframe lies ahead of what is decoded already."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container, self._stream = container, stream
        self._frames = _decode(container, stream)
        self._current: av.VideoFrame | None = None
        self._ahead: av.VideoFrame | None = next(self._frames, None)
        if self._ahead is None:
            raise MediaError(f"{container.name} holds no frame that can be decoded; it may be damaged or cut off")

    def frame_at(self, tick: int) -> np.ndarray:
        """The frame with the latest time stamp up to `tick`, `[H, W, 3]`. Ticks must not fall."""
        if self._keyframe_lies_ahead(tick):
            self._seek(tick)
        while self._ahead is not None and (self._current is None or self._time_stamp(self._ahead) <= tick):
            self._current, self._ahead = self._ahead, next(self._frames, None)
        assert self._current is not None  # the first step of the loop always sets it
        return _to_rgb(self._current)

    def _keyframe_lies_ahead(self, tick: int) -> bool:
        if self._ahead is None or self._time_stamp(self._ahead) >= tick:
            return False
        entries = self._stream.index_entries
        position = entries.search_timestamp(tick, backward=True)
        # The index counts in order of decoding, which runs a little ahead of the order of display;
        # a seek that gains nothing is noticed in `_seek`.
        return position >= 0 and entries[position].timestamp > self._time_stamp(self._ahead)

    def _seek(self, tick: int) -> None:
        self._container.seek(tick, stream=self._stream)
        self._frames = _decode(self._container, self._stream)
        self._current, self._ahead = None, next(self._frames, None)
        if self._ahead is None or self._time_stamp(self._ahead) > tick:
            # Landed behind the target, as containers with a poor index do: start over and walk.
            self._container.seek(self._stream.start_time or 0, stream=self._stream)
            self._frames = _decode(self._container, self._stream)
            self._ahead = next(self._frames, None)

    def _time_stamp(self, frame: av.VideoFrame) -> int:
        if frame.pts is None:
            raise MediaError(f"{self._container.name} holds frames without time stamps; convert it to mp4")
        return frame.pts


def _decode(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    return container.decode(stream)


def _to_rgb(frame: av.VideoFrame) -> np.ndarray:
    pixels = frame.to_ndarray(format="rgb24", interpolation=_TO_RGB)
    # Phones store upright videos lying down, with a note to turn them (counterclockwise, in degrees).
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
