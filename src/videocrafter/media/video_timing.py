"""Length and rate of a video, from the time stamps of the frames that a player shows.

Headers are not enough: after a cut without re-encoding, a file still contains the frames before the cut, marked as
hidden, and many containers state no length at all, or a guess.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from operator import itemgetter

from av.packet import Packet
from av.video.stream import VideoStream

from videocrafter.media.errors import UnusableMediaError
from videocrafter.media.open_video import OpenVideo

# Time stamps are rounded to ticks, so intervals between frames may be off by one at both ends.
_ROUNDING_TICKS = 2.0
# Intervals longer than the median by this factor are pauses (a frame stays on screen), not part of the rate. Film on
# television alternates intervals of 2 and 3 fields, a factor of 1.5.
_PAUSE = 1.75
# Largest distance, in frames, between the time stamps and a constant rate. A cut may lie within a frame.
_MAX_DRIFT = 0.6
# The index of an mp4 is in decoding order, where a cut removes a frame or two in the middle.
_MAX_GAPS = 2
# Larger files are read to their end only if nothing else tells their length.
_MAX_COUNTED_BYTES = 1 << 27
# These formats state how long each frame is shown, and no frame rate.
_EXACT_DURATIONS = ("gif", "apng")


@dataclass(frozen=True, kw_only=True)
class FrameIndex:
    """Frames of a file, found without decoding.

    Attributes:
        times: time stamps of the shown frames in ticks, increasing. Those of an mp4 have an arbitrary offset.
        last_ticks: duration of the last frame; 0 if it is not known.
        total_ticks: length of the video according to the index; 0 if it is not known.
        keyframes: time stamps of the frames to seek to, increasing; those of an mp4 may be a little too early.
        offsets: position of each keyframe in the file, where seeks need it.
        is_counted: whether the whole file was read.
        is_numbered: whether time stamps do not follow the order of display, so that frames are numbered instead.
    """

    times: Sequence[float]
    last_ticks: float = 0
    total_ticks: float = 0
    keyframes: Sequence[int] = ()
    offsets: Sequence[int | None] = ()
    is_counted: bool = False
    is_numbered: bool = False

    def keyframe_before(self, tick: float) -> int:
        """Return the number of the last keyframe up to `tick`, or -1."""
        return bisect_right(self.keyframes, tick) - 1


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Length and rate of a video.

    Attributes:
        num_frames: number of shown frames.
        fps: frames per second. If the rate varies: without pauses, in which one frame stays on screen for long.
        duration_s: seconds from the first frame until the last one disappears.
        is_constant: whether all frames are shown equally long.
    """

    num_frames: int
    fps: float
    duration_s: float
    is_constant: bool = True

    @property
    def num_even_frames(self) -> int:
        """Number of frames after resampling to the constant rate `fps`."""
        return self.num_frames if self.is_constant else max(1, int(self.duration_s * self.fps + 0.01))


def index_frames(video: OpenVideo) -> FrameIndex:
    """List the frames of a video: from its index if that is complete, else by reading the file to its end.

    For a large file without such an index, trust the header, because reading the file takes too long.
    """
    stream = video.stream
    if video.format.startswith("mov") or video.format == "avi":
        # A fragmented mp4 does not state its number of frames, and its index grows while it is read.
        entries = stream.index_entries
        if 0 < stream.frames <= len(entries):
            return _from_entries(video)
    # A program stream states no length, and FFmpeg's guess is far off.
    num_frames = 0 if video.format == "mpeg" else int(stated_duration(video) * stated_rate(video) + 0.01)
    if video.container.size > _MAX_COUNTED_BYTES and num_frames > 1:
        return _from_header(video, num_frames)
    return _from_packets(video)


def stated_rate(video: OpenVideo) -> float:
    """Return the frame rate that the header states, or FFmpeg's guess, or 0."""
    return float(video.stream.average_rate or video.stream.guessed_rate or 0)


def stated_duration(video: OpenVideo) -> float:
    """Return the length in seconds that the header states for the video stream, or 0."""
    stream, container = video.stream, video.container
    duration_s = 0.0
    if stream.duration:
        return stream.duration / video.ticks_per_s
    if tag := stream.metadata.get("DURATION"):  # Matroska: 00:00:03.000000000
        parts = tag.split(":")
        with suppress(ValueError):
            duration_s = sum(float(part) * 60**power for power, part in enumerate(reversed(parts)))
    elif len(container.streams) == 1:  # with several streams, it is the length of the longest
        duration_s = (container.duration or 0) / 1_000_000
    # Here, lengths count from zero, not from the first frame.
    duration_s -= (stream.start_time or 0) / video.ticks_per_s
    return duration_s if math.isfinite(duration_s) else 0.0


def measure(video: OpenVideo, index: FrameIndex, first_tick: float) -> Timing:
    """Compute length and rate from the frames that are shown from `first_tick` on.

    Raises:
        UnusableMediaError: there are no frames, or nothing tells their rate.
    """
    times = index.times
    if index.is_counted and not index.is_numbered:
        # A recording may start between keyframes. The frames before the first one that can be decoded are not shown.
        times = [time for time in times if time >= first_tick]
    if not times:
        raise UnusableMediaError("no_frames", f"{video.name} contains no frames; it may be damaged or truncated")
    stated = stated_rate(video)
    intervals = [later - earlier for earlier, later in pairwise(times) if later > earlier]
    if video.format in _EXACT_DURATIONS and index.last_ticks:
        intervals.append(index.last_ticks)
        stated = 0.0
    if not intervals or index.is_numbered:
        return _without_intervals(video, len(times), index.last_ticks, stated)
    median = sorted(intervals)[len(intervals) // 2]
    steady = [interval for interval in intervals if median / _PAUSE <= interval <= median * _PAUSE]
    mean = sum(steady) / len(steady)
    fps = video.ticks_per_s / mean
    # The stated rate is exact, so prefer it if the time stamps agree with it.
    if stated and abs(fps / stated - 1) <= 5e-4 + _ROUNDING_TICKS / sum(steady):
        fps = stated
    shown = index.total_ticks or times[-1] - times[0] + (index.last_ticks or mean)
    drifts = [abs(tick - mean * number) for number, tick in enumerate(accumulate(intervals), start=1)]
    gaps = 0 if index.is_counted else _MAX_GAPS
    is_constant = max(drifts) <= max(_ROUNDING_TICKS, (_MAX_DRIFT + gaps) * mean) and (
        index.is_counted or abs(shown - mean * len(times)) <= max(_ROUNDING_TICKS, _MAX_DRIFT * mean)
    )
    fps = _without_rounding(fps)
    return Timing(
        num_frames=len(times),
        fps=fps,
        duration_s=len(times) / fps if is_constant else shown / video.ticks_per_s,
        is_constant=is_constant,
    )


def _without_intervals(video: OpenVideo, num_frames: int, last_ticks: float, stated: float) -> Timing:
    """Return the timing of a single frame, or of frames whose time stamps mean nothing."""
    fps = stated or (video.ticks_per_s / last_ticks if last_ticks else 0)
    if not fps:
        raise UnusableMediaError("no_rate", f"{video.name} does not state its frame rate; convert it to mp4")
    if num_frames == 1 and last_ticks:
        fps = video.ticks_per_s / last_ticks
    fps = _without_rounding(fps)
    return Timing(num_frames=num_frames, fps=fps, duration_s=num_frames / fps)


def _without_rounding(fps: float) -> float:
    """Return the simple rate that a computed one stands for: 10.0 for 9.999999999999998."""
    simple = float(Fraction(fps).limit_denominator(1001))
    return simple if math.isclose(simple, fps, rel_tol=1e-9) else fps


def _from_entries(video: OpenVideo) -> FrameIndex:
    """Read the index of an mp4 or avi, whose time stamps are in the order of decoding."""
    stream = video.stream
    times: list[float] = []
    keyframes: list[int] = []
    previous, was_hidden, clock = 0, True, 0.0
    for entry in stream.index_entries:
        if not entry.size:
            continue  # in an avi, an empty frame repeats the one before
        stamp = entry.timestamp
        if entry.is_keyframe:
            keyframes.append(stamp)
        # In decoding order, hidden frames may lie between shown ones.
        if not entry.is_discard:
            clock += 0 if was_hidden else stamp - previous
            times.append(clock)
        previous, was_hidden = stamp, entry.is_discard
    return FrameIndex(
        times=times,
        last_ticks=(stream.duration or 0) if len(times) == 1 else 0,
        total_ticks=stream.duration or 0,
        keyframes=sorted(keyframes),
        is_numbered=_is_reordered_avi(video),
    )


def _from_header(video: OpenVideo, num_frames: int) -> FrameIndex:
    interval = video.ticks_per_s / stated_rate(video)
    return FrameIndex(
        times=[number * interval for number in range(num_frames)],
        keyframes=sorted(entry.timestamp for entry in video.stream.index_entries if entry.is_keyframe),
    )


def _is_reordered_avi(video: OpenVideo) -> bool:
    """Return whether an avi stores frames in decoding order, for which it has no time stamps."""
    codec = video.stream.codec_context
    return video.format == "avi" and codec.name in ("h264", "hevc") and codec.has_b_frames


def _from_packets(video: OpenVideo) -> FrameIndex:
    """Read the file to its end, without decoding, and return to its start."""
    shown: list[tuple[int, int]] = []
    keyframes: list[tuple[int, int | None]] = []
    latest, is_numbered = None, False
    for packet in video.container.demux(video.stream):
        video.check_deadline()
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None or not packet.size or not _is_shown(video.stream, packet):
            continue
        if packet.dts is not None:
            is_numbered |= latest is not None and packet.dts < latest
            latest = packet.dts
        shown.append((stamp, packet.duration or 0))
        if packet.is_keyframe:
            keyframes.append((stamp, packet.pos))
    video.reopen()
    shown.sort()
    keyframes.sort(key=itemgetter(0))
    return FrameIndex(
        times=[stamp for stamp, _ in shown],
        last_ticks=shown[-1][1] if shown else 0,
        keyframes=[stamp for stamp, _ in keyframes],
        offsets=[offset for _, offset in keyframes],
        is_counted=True,
        is_numbered=is_numbered,
    )


def _is_shown(stream: VideoStream, packet: Packet[VideoStream]) -> bool:
    """Return whether a frame is shown; others only serve as references."""
    # A VP8 packet may contain one hidden frame, marked by a bit.
    return not packet.is_discard and not (stream.codec_context.name == "vp8" and not memoryview(packet)[0] & 0x10)
