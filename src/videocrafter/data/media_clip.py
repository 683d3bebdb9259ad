"""Clips that are files, or parts of files and archives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from videocrafter.data.clip import DecodingLimits, Kind, LazyVideo
from videocrafter.data.errors import BadSampleError
from videocrafter.data.locations import Location
from videocrafter.media.errors import MediaError
from videocrafter.media.framing import MAX_ASPECT, Framer, frame_image
from videocrafter.media.image_file import TooManyPixelsError, read_image
from videocrafter.media.video_reader import UnusableMediaError, VideoReader, open_reader

# A megabyte is a book; a caption file of that size is something else.
_MAX_CAPTION_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class CaptionFile:
    """Where a caption stands: the whole of a text file, or one field of a JSON file."""

    location: Location
    field: str | None = None

    def read(self) -> str:
        """The caption, or an empty string if the field is missing or no text.

        Raises:
            BadSampleError: the file cannot be read.
        """
        text = self.location.read(_MAX_CAPTION_BYTES).decode("utf-8-sig", "replace")
        if self.field is None:
            return tidy_caption(text)
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadSampleError("no_caption", f"{self.location.name} is no JSON ({error})") from error
        return tidy_caption(content.get(self.field) if isinstance(content, dict) else None)

    def is_there(self) -> bool:
        """Whether a caption can be read and says something."""
        try:
            return bool(self.read())
        except BadSampleError:
            return False


@dataclass(frozen=True, kw_only=True)
class MediaClip:
    """A video or image in a file.

    Attributes:
        key: its name in its source.
        kind: which of the two it is.
        media: where the file is.
        caption: what it shows, or where that is written.
        start_s, end_s: the part of the video that counts; an end of None is the file's.
    """

    key: str
    kind: Kind
    media: Location
    caption: str | CaptionFile
    start_s: float = 0.0
    end_s: float | None = None

    @contextmanager
    def open(self, limits: DecodingLimits) -> Iterator[LazyVideo]:
        """Open it for decoding."""
        caption = self.caption.read() if isinstance(self.caption, CaptionFile) else self.caption
        if self.kind == "image":
            yield _StillImage(caption, self.media, limits)
            return
        with _reader(self.media, limits) as reader:
            yield _VideoPart(caption, reader, self.start_s, self.end_s)


class _VideoPart:
    """Frames of an open video between two times."""

    def __init__(self, caption: str, reader: VideoReader, start_s: float, end_s: float | None) -> None:
        self.caption, self._reader, self._start_s = caption, reader, start_s
        self.fps = reader.fps
        whole = start_s <= 0 and end_s is None
        end_s = reader.duration_s if end_s is None else min(end_s, reader.duration_s)
        self.duration_s = max(0.0, end_s - start_s)
        self.num_frames = reader.num_frames if whole else int(self.duration_s * self.fps + 0.01)

    @property
    def size(self) -> tuple[int, int]:
        return self._reader.size

    def frames_at(self, times_s: Sequence[float], framer: Framer | None = None) -> np.ndarray:
        return self._reader.frames_at([self._start_s + time_s for time_s in times_s], framer)


class _StillImage:
    """An image as a video of one frame."""

    fps, num_frames, duration_s = 1.0, 1, 1.0

    def __init__(self, caption: str, media: Location, limits: DecodingLimits) -> None:
        self.caption, self._media, self._limits = caption, media, limits
        self._pixels: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        height, width, _ = self._decoded().shape
        return height, width

    def frames_at(self, times_s: Sequence[float], framer: Framer | None = None) -> np.ndarray:
        pixels = self._decoded()
        if framer is not None:
            pixels = frame_image(pixels, framer(*self.size))
        return np.stack([pixels] * len(times_s))

    def _decoded(self) -> np.ndarray:
        if self._pixels is None:
            self._pixels = self._decode()
            height, width, _ = self._pixels.shape
            if max(height, width) > MAX_ASPECT * min(height, width):
                raise BadSampleError("absurd_size", f"{self._media.name} has {width}x{height} pixels")
        return self._pixels

    def _decode(self) -> np.ndarray:
        path, name, most = self._media.path, self._media.name, self._limits.max_pixels
        try:
            if path is not None:
                if not path.is_file():
                    raise BadSampleError("missing", f"{name} does not exist or is no file")
                return read_image(path, most)
            with self._media.open() as file:
                return read_image(file, most, name)
        except TooManyPixelsError as error:
            raise BadSampleError("absurd_size", str(error)) from error
        except MediaError as error:
            raise BadSampleError("unreadable", str(error)) from error
        except OSError as error:  # such as a name longer than the file system has
            raise BadSampleError("unreadable", f"{name} cannot be read ({error})") from error


@contextmanager
def _reader(media: Location, limits: DecodingLimits) -> Iterator[VideoReader]:
    def opened(source: Any) -> Any:
        return open_reader(source, media.name, time_limit_s=limits.time_limit_s, max_pixels=limits.max_pixels)

    try:
        if media.path is not None:
            with opened(media.path) as reader:
                yield reader
        else:
            with media.open() as file, opened(file) as reader:
                yield reader
    except UnusableMediaError as error:
        raise BadSampleError(error.reason, str(error)) from error
    except OSError as error:  # such as a name longer than the file system has
        raise BadSampleError("unreadable", f"{media.name} cannot be read ({error})") from error


def tidy_caption(value: object) -> str:
    """A caption on one line, of characters that every tokenizer takes; empty if it is no text."""
    if not isinstance(value, str):
        return ""
    # JSON can hold halves of characters (lone surrogates), which are none.
    whole = value.encode("utf-8", "replace").decode("utf-8")
    return " ".join(whole.replace("\0", " ").split())
