"""Open video files safely, and choose the stream that a player shows (PyAV)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from videocrafter.media.errors import MediaError, UnusableMediaError

MAX_FRAME_PIXELS = 50_000_000
"""Largest video frame to decode. 8K has 33 million pixels."""

# A file named .mp4 may be a playlist that makes the reader open other files or addresses. Only real containers are
# opened, and only this one file is read.
_OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,matroska,webm,avi,gif,apng,mpegts,mpeg,flv,asf,ogg",
}
# Bytes per read from a Python file object; larger reads would fetch what a seek then skips.
_BUFFER_BYTES = 1 << 17
# Cover art of music, and previews for a seek bar.
_NOT_THE_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails


class OpenVideo:
    """An open video file.

    Attributes:
        name: name of the file in error messages.
        container: the open file. `reopen` replaces it.
        stream: the video stream that a player shows.
        format: name of the container's format, as FFmpeg spells it.
        ticks_per_s: units of the stream's time stamps.
    """

    container: InputContainer
    stream: VideoStream

    def __init__(
        self, source: Path | BinaryIO, name: str, max_pixels: int, threads: int, deadline: float | None
    ) -> None:
        self.name = name
        self._source, self._max_pixels, self._threads, self._deadline = source, max_pixels, threads, deadline
        self._open()
        self.format = self.container.format.name
        if not self.stream.time_base:
            raise UnusableMediaError("no_rate", f"{name} has no time stamps; convert it to mp4")
        self.ticks_per_s = 1 / float(self.stream.time_base)

    def _open(self) -> None:
        source = self._source
        file = f"file:{source}" if isinstance(source, Path) else source
        self.container = av.open(file, "r", options=_OPEN_OPTIONS, buffer_size=_BUFFER_BYTES)
        try:
            self.stream = _choose_stream(self.container, self.name)
            codec = self.stream.codec_context
            check_pixels(self.name, codec.height, codec.width, self._max_pixels)
            # The decoder checks it too, because the stream may contradict its container.
            codec.options = {"max_pixels": str(self._max_pixels)}
            codec.thread_count = self._threads
        except BaseException:
            self.container.close()
            raise

    def reopen(self) -> None:
        """Return to the start of the file, which a seek does not reach in every format."""
        self.container.close()
        if not isinstance(self._source, Path):
            self._source.seek(0)
        self._open()

    def check_deadline(self) -> None:
        """Raise UnusableMediaError if reading takes longer than allowed."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise UnusableMediaError(
                "too_slow", f"{self.name} takes too long to read or decode; convert it to mp4 (H.264)"
            )


@contextmanager
def open_video(
    source: Path | BinaryIO,
    name: str | None = None,
    *,
    time_limit_s: float | None = None,
    max_pixels: int = MAX_FRAME_PIXELS,
    threads: int = 1,
) -> Iterator[OpenVideo]:
    """Open a video file.

    Args:
        source: a path, or a seekable binary file object.
        name: name of the file in error messages; None for its path.
        time_limit_s: seconds from now until decoding gives up. It is checked between frames, so a decoder that hangs
            within one frame has to be stopped from outside.
        max_pixels: largest number of pixels of a frame to decode.
        threads: number of decoder threads.

    Raises:
        UnusableMediaError: the file is missing, is not a video, or turns out to be damaged while it is read.
    """
    name = name or str(source)
    deadline = None if time_limit_s is None else time.monotonic() + time_limit_s
    if isinstance(source, Path) and not source.is_file():
        raise UnusableMediaError("missing", f"{name} does not exist or is not a file; pass the path of a video")
    video = None
    try:
        video = OpenVideo(source, name, max_pixels, threads, deadline)
        yield video
    except MediaError:
        raise
    except (av.FFmpegError, OSError) as error:
        raise UnusableMediaError(
            "unreadable",
            f"{name} cannot be read as a video ({error.strerror or error}); it may be damaged, truncated, "
            "or of an unsupported format: use an mp4, webm, mkv, avi or gif",
        ) from error
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
        # PyAV raises these when a header contains nonsensical numbers.
        raise UnusableMediaError("unreadable", f"{name} cannot be read as a video ({error})") from error
    finally:
        if video is not None:
            video.container.close()


def check_pixels(name: str, height: int, width: int, max_pixels: int) -> None:
    """Raise UnusableMediaError if a frame has no pixels, or too many."""
    if height < 0 or width < 0 or height * width > max_pixels:
        raise UnusableMediaError(
            "absurd_size", f"{name} has frames of {width}x{height} pixels; its header may be damaged"
        )


def _choose_stream(container: InputContainer, name: str) -> VideoStream:
    """Return the default video stream, or else the largest; cover art is not video."""
    streams = [stream for stream in container.streams.video if not stream.disposition & _NOT_THE_VIDEO]
    if not streams:
        raise UnusableMediaError("audio_only", f"{name} has no video stream; use an mp4, webm, mkv, avi or gif")
    stream = max(streams, key=_preference)
    if not _preference(stream)[0]:
        raise UnusableMediaError(
            "unreadable",
            f"{name} is damaged, or uses a codec that this build of PyAV does not support; convert it to mp4",
        )
    return stream


def _preference(stream: VideoStream) -> tuple[bool, bool, int]:
    codec: Any = stream.codec_context  # None if this build of PyAV cannot decode it
    pixels = codec.width * codec.height if codec else 0
    return codec is not None, bool(stream.disposition & Disposition.default), pixels
