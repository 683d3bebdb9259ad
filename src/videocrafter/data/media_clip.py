"""Clips stored as media files, or as parts of files or archives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from videocrafter.data.clip import DecodingLimits, Kind, LazyVideo
from videocrafter.data.errors import BadSampleError
from videocrafter.data.locations import Location
from videocrafter.data.tables import RepeatedKeyObject, TableError, parse_json
from videocrafter.data.text_files import TextError, decode_text, non_character
from videocrafter.media.errors import MediaError, UnusableMediaError
from videocrafter.media.framing import MAX_ASPECT, Framer, frame_image
from videocrafter.media.image_file import TooManyPixelsError, read_image
from videocrafter.media.video_reader import VideoReader, open_reader

# A megabyte holds a whole book, so a larger file is not a caption.
_MAX_CAPTION_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class CaptionFile:
    """Location of a caption: a whole text file, or one field of a JSON file."""

    location: Location
    field: str | None = None

    def read(self) -> str:
        """Return the caption, or an empty string if the field is missing or not a string.

        Raises:
            BadSampleError: the file cannot be read or decoded, or contains the field twice.
        """
        name = self.location.name
        try:
            text = decode_text(self.location.read(_MAX_CAPTION_BYTES), name)
            if self.field is None:
                return tidy_caption(text)
            content = parse_json(text, name)
        except TextError as error:
            raise BadSampleError("bad_caption", str(error)) from error
        except TableError as error:
            raise BadSampleError("no_caption", str(error)) from error
        if isinstance(content, RepeatedKeyObject) and self.field in content.repeated:
            raise BadSampleError("bad_caption", f"{name} has the key {self.field!r} twice; remove one of them")
        caption = tidy_caption(content.get(self.field) if isinstance(content, dict) else None)
        return _checked(caption, name)

    def problem(self) -> str | None:
        """Return one line on why there is no usable caption, or None if there is one."""
        try:
            return None if self.read() else f"{self.location.name} has an empty caption"
        except BadSampleError as error:
            return str(error)


@dataclass(frozen=True, kw_only=True)
class MediaClip:
    """A video or image in a file.

    Attributes:
        key: name within the source.
        kind: video or image.
        media: location of the file.
        caption: the caption or its location.
        start_s, end_s: start and end of the clip within the video, in seconds; None means the end of the file.
    """

    key: str
    kind: Kind
    media: Location
    caption: str | CaptionFile
    start_s: float = 0.0
    end_s: float | None = None

    @contextmanager
    def open(self, limits: DecodingLimits) -> Iterator[LazyVideo]:
        """Open the clip for decoding."""
        caption = self.caption.read() if isinstance(self.caption, CaptionFile) else _checked(self.caption, self.key)
        if self.kind == "image":
            yield _StillImage(caption, self.media, limits)
            return
        with _reader(self.media, limits) as reader:
            yield _VideoPart(caption, reader, self.start_s, self.end_s)


class _VideoPart:
    """The part of an open video between two times."""

    def __init__(self, caption: str, reader: VideoReader, start_s: float, end_s: float | None) -> None:
        self.caption, self._reader, self._start_s = caption, reader, start_s
        self.fps = reader.fps
        whole = start_s <= 0 and end_s is None
        end_s = reader.duration_s if end_s is None else min(end_s, reader.duration_s)
        duration_s = max(0.0, end_s - start_s)
        self.num_frames = reader.timing.num_even_frames if whole else int(duration_s * self.fps + 0.01)

    def frames_at(self, times_s: Sequence[float], framer: Framer | None = None) -> np.ndarray:
        return self._reader.frames_at([self._start_s + time_s for time_s in times_s], framer)


class _StillImage:
    """An image as a one-frame video."""

    fps, num_frames = 1.0, 1

    def __init__(self, caption: str, media: Location, limits: DecodingLimits) -> None:
        self.caption, self._media, self._limits = caption, media, limits

    def frames_at(self, times_s: Sequence[float], framer: Framer | None = None) -> np.ndarray:
        pixels = self._decode()
        height, width, _ = pixels.shape
        if max(height, width) > MAX_ASPECT * min(height, width):
            raise BadSampleError("absurd_size", f"{self._media.name} has {width}x{height} pixels")
        if framer is not None:
            pixels = frame_image(pixels, framer(height, width))
        return np.stack([pixels] * len(times_s))

    def _decode(self) -> np.ndarray:
        path, name, most = self._media.path, self._media.name, self._limits.max_pixels
        try:
            if path is not None:
                if not path.is_file():
                    raise BadSampleError("missing", f"{name} does not exist or is not a file")
                return read_image(path, most)
            with self._media.open() as file:
                return read_image(file, most, name)
        except TooManyPixelsError as error:
            raise BadSampleError("absurd_size", str(error)) from error
        except MediaError as error:
            raise BadSampleError("unreadable", str(error)) from error
        except OSError as error:  # such as a name that is too long for the file system
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
    except OSError as error:  # such as a name that is too long for the file system
        raise BadSampleError("unreadable", f"{media.name} cannot be read ({error})") from error


def tidy_caption(value: object) -> str:
    """Return a caption on one line; empty if `value` is not a string."""
    return " ".join(value.split()) if isinstance(value, str) else ""


def _checked(caption: str, name: str) -> str:
    if what := non_character(caption):
        raise BadSampleError("bad_caption", f"the caption of {name} contains {what}; correct or remove it")
    return caption
