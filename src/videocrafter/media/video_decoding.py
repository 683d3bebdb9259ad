"""Walk through the frames of a video by time, and decode no more of them than necessary (PyAV)."""

from collections.abc import Iterator
from typing import NamedTuple

import av

from videocrafter.media.errors import UnusableMediaError
from videocrafter.media.open_video import OpenVideo
from videocrafter.media.video_timing import Timing, index_frames, measure

_FRAMES_WORTH_A_SEEK = 12
# Keyframes to try, from the nearest one back, before decoding from the start.
_SEEK_ATTEMPTS = 3
# Each frame changes parts of the one before, even where the container calls it a keyframe.
_UNSEEKABLE = ("gif", "apng")
# Time stamps are sparse in these formats, so seeks by time miss.
_SEEK_BY_OFFSET = ("mpeg", "mpegts")
_ROUNDING_FORMATS = ("matroska,webm", "flv")


class _Stamped(NamedTuple):
    """A frame and its time stamp."""

    tick: int
    frame: av.VideoFrame


class FrameCursor:
    """Walks through a video and seeks only where that saves decoding.

    Attributes:
        timing: length and rate of the video.
        saw_damage: whether the decoder had to conceal errors since the last seek.
    """

    def __init__(self, video: OpenVideo) -> None:
        self.saw_damage = False
        self._video, self._index = video, index_frames(video)
        # FFmpeg learns this from the first frames, and forgets it in a seek.
        self._reorder_depth = video.stream.codec_context.reorder_depth
        self._frames: Iterator[av.VideoFrame] | None = None
        self._current: _Stamped | None = None
        self._ahead: _Stamped | None = None
        self._num_decoded = 0
        self._from_start = False
        self._ticks_per_frame = video.ticks_per_s / float(video.stream.guessed_rate or 25)
        # An mp4 states when its first frame is shown; in other formats, the first frame tells.
        self._first_tick = video.stream.start_time or 0
        if self._index.is_counted or video.format == "avi":
            self._rewind()
            assert self._ahead is not None
            self._first_tick = self._ahead.tick
        self.timing: Timing = measure(video, self._index, self._first_tick)
        self._ticks_per_frame = video.ticks_per_s / self.timing.fps

    def tick(self, time_s: float) -> int:
        """Return the time stamp `time_s` seconds after the first frame."""
        # Rounded up by less than a tick: 1/3 s must find the frame whose time stamp is 1/3 s rounded down. Some
        # formats round to the nearest millisecond: 2/3 s must find the frame at 0.667 s.
        rounding = 0.5 if self._video.format in _ROUNDING_FORMATS else 1e-3
        return self._first_tick + int(time_s * self._video.ticks_per_s + rounding)

    def frame_at(self, tick: int) -> av.VideoFrame:
        """Return the frame with the latest time stamp up to `tick`, or the first frame.

        Raises:
            UnusableMediaError: no frame can be decoded, or the deadline has passed.
        """
        if self._lies_behind(tick) or self._is_worth_a_seek(tick):
            self._go_to(tick)
        while self._ahead is not None and (self._current is None or self._ahead.tick <= tick):
            self._current, self._ahead = self._ahead, self._next()
        assert self._current is not None  # the first step of the loop always sets it
        return self._current.frame

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yield all frames in order."""
        if not (self._from_start and self._current is None):
            self._rewind()
        while self._ahead is not None:
            self._current, self._ahead = self._ahead, self._next()
            yield self._current.frame

    def stamped_frames(self, tick: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield all frames with their time stamps, from the frame on screen at `tick` on."""
        self.frame_at(tick)
        while self._current is not None:
            yield self._current
            self._current, self._ahead = self._ahead, None if self._ahead is None else self._next()

    def seconds_at(self, tick: int) -> float:
        """Return the seconds from the first frame to a time stamp."""
        return (tick - self._first_tick) / self._video.ticks_per_s

    def keyframe_times(self) -> list[float]:
        """Return the times of the keyframes in seconds, increasing; those of an mp4 may be a little too early."""
        return [self.seconds_at(tick) for tick in self._index.keyframes]

    def seconds_past_end(self, tick: int) -> float:
        """Return how many seconds `tick` is past the end of the last frame; 0 if it is not."""
        if self._ahead is not None or self._current is None:
            return 0.0
        end = self._current.tick + (self._current.frame.duration or self._ticks_per_frame)
        return max(0.0, tick - end) / self._video.ticks_per_s

    def _lies_behind(self, tick: int) -> bool:
        if self._frames is None:
            return True
        if self._current is None:
            return False
        is_first = self._from_start and self._num_decoded <= 2
        return tick < self._current.tick and not is_first

    def _is_worth_a_seek(self, tick: int) -> bool:
        # A seek discards the frames that the decoder holds back for reordering, so skipping a few gains nothing.
        if self._ahead is None or self._ahead.tick >= tick:
            return False
        number = self._index.keyframe_before(tick)
        skipped = 0 if number < 0 else self._index.keyframes[number] - self._ahead.tick
        return self._can_seek and skipped > _FRAMES_WORTH_A_SEEK * self._ticks_per_frame

    @property
    def _can_seek(self) -> bool:
        return not self._index.is_numbered and self._video.format not in _UNSEEKABLE

    def _go_to(self, tick: int) -> None:
        """Seek to the last keyframe up to `tick`, and verify it; else start over."""
        number = self._index.keyframe_before(tick)
        for attempt in range(number, max(0, number - _SEEK_ATTEMPTS), -1):
            if not self._can_seek:
                break
            # The index of an mp4 is in the order of decoding, and its seeks are in the order of display.
            self._seek(attempt, tick if attempt == number and not self._index.is_counted else None)
            if self._ahead is not None and self._ahead.tick <= tick:
                return
        self._rewind()

    def _seek(self, number: int, tick: int | None) -> None:
        """Continue at keyframe `number`, or at the last one up to `tick`, if the seek succeeds."""
        video = self._video
        offset = self._index.offsets[number] if self._index.offsets and video.format in _SEEK_BY_OFFSET else None
        if offset is not None:
            video.container.seek(offset, unsupported_byte_offset=True, stream=video.stream)
        else:
            target = self._index.keyframes[number] if tick is None else tick
            video.container.seek(target, stream=video.stream)
        video.stream.codec_context.reorder_depth = self._reorder_depth
        self._restart(is_start=False)

    def _rewind(self) -> None:
        if self._frames is not None:
            self._video.reopen()
        self._restart(is_start=True)
        if self._ahead is None:
            raise UnusableMediaError(
                "no_frames",
                f"{self._video.name} contains no frame that can be decoded; it may be damaged or truncated",
            )

    def _restart(self, *, is_start: bool) -> None:
        self._frames = _decode(self._video, is_start)
        self.saw_damage, self._num_decoded, self._from_start = False, 0, is_start
        self._current, self._ahead = None, None
        self._ahead = self._next()

    def _next(self) -> _Stamped | None:
        assert self._frames is not None
        frame = next(self._frames, None)
        if frame is None:
            return None
        self.saw_damage |= frame.is_corrupt
        self._num_decoded += 1
        if self._index.is_numbered:
            return _Stamped(round((self._num_decoded - 1) * self._ticks_per_frame), frame)
        if frame.pts is None:
            before = self._ahead.tick if self._ahead else self._first_tick - self._ticks_per_frame
            return _Stamped(round(before + self._ticks_per_frame), frame)
        return _Stamped(frame.pts, frame)


def _decode(video: OpenVideo, is_start: bool) -> Iterator[av.VideoFrame]:
    """Decode from the current position; after a seek, from the next keyframe.

    Frames before that keyframe, in the file or on screen, refer to frames that were skipped, so they are broken.
    """
    first: int | None = None
    has_frames = not is_start
    for packet in video.container.demux(video.stream):
        video.check_deadline()
        if not is_start and first is None:
            if not packet.is_keyframe:
                continue
            first = packet.dts if packet.pts is None else packet.pts
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            if has_frames or packet.is_keyframe:
                raise
            continue  # a recording that does not start with a keyframe
        for frame in frames:
            has_frames = True
            if first is None or frame.pts is None or frame.pts >= first:
                yield frame
