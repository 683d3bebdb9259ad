"""Divide a video into pieces: shots without their ends, in lengths that can be trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from videocrafter.preparation.config import ScanConfig
from videocrafter.preparation.plan import Segment
from videocrafter.preparation.scan.transitions import Transition


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Frames `first` to `last` of a walk; `shot` counts shots, `caption` is a given one."""

    first: int
    last: int
    shot: int
    caption: str = ""


def find_pieces(
    transitions: Sequence[Transition],
    times_s: Sequence[float],
    window: tuple[float, float],
    config: ScanConfig,
) -> list[Piece]:
    """Return the pieces that begin in a window.

    Args:
        transitions: in order.
        times_s: time of every frame, and, last, the end of the last frame.
        window: start and end in seconds. Shots are divided there; frames outside were read only to see cuts.
    """
    if len(times_s) < 2:
        return []
    start_frame, end_frame = (int(np.searchsorted(times_s[:-1], time - 1e-6)) for time in window)
    # Bounds of shots, and whether a transition is there.
    bounds: list[tuple[int, int]] = []
    first = start_frame
    for one in transitions:
        if one.last <= start_frame or one.first >= end_frame:
            continue
        bounds.append((first, one.first - config.trim_frames))
        first = one.last + config.trim_frames
    bounds.append((first, end_frame - 1))
    pieces = []
    for shot, (low, high) in enumerate(bounds):
        pieces += _divided(low, high, shot, times_s, config)
    return pieces


def given_pieces(
    segments: Sequence[Segment], times_s: Sequence[float], config: ScanConfig
) -> tuple[list[Piece], list[str]]:
    """Return the clips that the source defines, and a line about each that contains no frames.

    Cuts inside are counted, and do not divide them. A clip that is longer than allowed ends earlier.
    """
    times, pieces, problems = np.asarray(times_s), list[Piece](), list[str]()
    for shot, segment in enumerate(segments):
        end_s = given_end_s(segment, config)
        first = int(np.searchsorted(times[:-1], segment.start_s - 1e-3))
        last = min(int(np.searchsorted(times, end_s - 1e-3)) - 1, len(times) - 2)
        if last > first:
            pieces.append(Piece(first=first, last=last, shot=shot, caption=segment.caption))
        else:
            problems.append(
                f"the clip from {segment.start_s:g} to {end_s:g} s has fewer than two frames; the video ends at "
                f"{times_s[-1]:.3f} s"
            )
    return pieces, problems


def given_end_s(segment: Segment, config: ScanConfig) -> float:
    """Return the end of a clip that the source defines, no longer than allowed."""
    return min(math.inf if segment.end_s is None else segment.end_s, segment.start_s + config.max_clip_s)


def _divided(low: int, high: int, shot: int, times_s: Sequence[float], config: ScanConfig) -> list[Piece]:
    if high <= low or times_s[high + 1] - times_s[low] < config.min_clip_s:
        return []
    length_s = times_s[high + 1] - times_s[low]
    count = math.ceil(length_s / config.max_clip_s - 1e-6)
    times = np.asarray(times_s)
    starts = [
        low + int(np.searchsorted(times[low:], times[low] + length_s * part / count - 1e-6)) for part in range(count)
    ]
    lasts = [start - 1 for start in starts[1:]] + [high]
    return [Piece(first=start, last=last, shot=shot) for start, last in zip(starts, lasts, strict=True)]
