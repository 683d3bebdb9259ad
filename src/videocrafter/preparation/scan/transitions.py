"""Transitions between shots: hard cuts, flashes that are not cuts, fades and dissolves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from videocrafter.preparation.config import ScanConfig

Area = tuple[slice, slice]
"""Rows and columns of a picture."""

WHOLE: Area = (slice(None), slice(None))

# A flash is over, and the shot is the same again, after at most this many frames.
_LONGEST_FLASH = 8
_SAME_SHOT = 0.4
# Half-widths in seconds of the windows in which the middle is compared with both ends, and the least difference of
# the ends. Within a short time, motion over a soft picture resembles a mixture, but does not change as much.
_WINDOWS = ((0.17, 25.0), (0.35, 15.0), (0.75, 12.0), (1.25, 12.0))
_SLOW_FPS = 12.0
_MAX_RESIDUAL = 0.22
# Where the weight of a mixture changes by less than this part of its rate in the middle, the transition is over.
_LEAST_STEP = 0.4


@dataclass(frozen=True)
class Transition:
    """Frames `first` to `last` belong to no shot; those of a cut are the ones on both sides.

    Attributes:
        kind: a hard cut, or a fade or dissolve.
        first, last: number of the last frame of one shot, and of the first frame of the next.
    """

    kind: Literal["cut", "slow"]
    first: int
    last: int


class CutDetector:
    """PySceneDetect's adaptive detector with the same results, computed at a fraction of the cost."""

    def __init__(self, config: ScanConfig) -> None:
        self._config = config
        self._scores: list[float] = []
        self._hsv: np.ndarray | None = None

    def add(self, rgb: np.ndarray, area: Area = WHOLE) -> None:
        """Take the next frame, uint8 `[H, W, 3]`; `area` is the part without bars, which would dilute a cut."""
        before, self._hsv = self._hsv, cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
        # The mean of the mean differences of hue, saturation and value.
        inside = self._hsv[area]
        self._scores.append(0.0 if before is None else cv2.norm(before[area], inside, cv2.NORM_L1) / inside.size)

    def candidates(self) -> list[int]:
        """Return the frames that differ from the one before much more than the frames around them do.

        No two of them are too close for this list: which one is the cut is decided with flashes removed.
        """
        config = self._config
        scores, width = np.array(self._scores), config.cut_window
        if len(scores) < 2 * width + 1:
            return []
        windows = np.lib.stride_tricks.sliding_window_view(scores, 2 * width + 1)
        middle = windows[:, width]
        around = np.maximum((windows.sum(axis=1) - middle) / (2 * width), 1e-5)
        is_cut = (middle >= config.min_cut) & (middle >= config.cut_ratio * around)
        return (np.flatnonzero(is_cut) + width).tolist()


def find_transitions(
    candidates: Sequence[int], thumbs: Sequence[np.ndarray], times_s: Sequence[float], config: ScanConfig
) -> tuple[list[Transition], list[int]]:
    """Return the transitions in order, and the candidates that are not cuts (flashes, shocks).

    Args:
        candidates: frames at which the detector saw a cut.
        thumbs: every frame, uint8 `[h, w, 3]`.
        times_s: the time of every frame.
    """
    slow = find_slow(thumbs, times_s) if config.slow_transitions else []
    cuts, false = [], []
    for frame in candidates:
        if any(one.first < frame <= one.last for one in slow):
            continue
        if is_flash(frame, thumbs):
            false.append(frame)
        else:
            # However short the shot before it is: no clip may contain a cut.
            cuts.append(Transition("cut", frame - 1, frame))
    return sorted([*cuts, *slow], key=lambda one: (one.first, one.last)), false


def is_flash(frame: int, thumbs: Sequence[np.ndarray]) -> bool:
    """Return whether the picture before a change is back soon after it, or was there shortly before its end."""
    before, after = _wide(thumbs[frame - 1]), _wide(thumbs[frame])
    change = np.abs(after - before).mean()
    returning = [
        np.abs(_wide(thumbs[index]) - before).mean()
        for index in range(frame + 1, min(frame + _LONGEST_FLASH, len(thumbs)))
    ]
    returned = [
        np.abs(_wide(thumbs[index]) - after).mean() for index in range(max(0, frame - _LONGEST_FLASH), frame - 1)
    ]
    return min([*returning, *returned, np.inf]) < _SAME_SHOT * change


def find_slow(thumbs: Sequence[np.ndarray], times_s: Sequence[float]) -> list[Transition]:
    """Return fades and dissolves: there, a frame is a mixture of one before and one after it.

    Neither the motion of the camera nor that of objects mixes pictures, so fast motion is not mistaken for a
    dissolve; a hard cut shows one of the two pictures at each time.
    """
    if len(times_s) < 3:
        return []
    picked = _regular(times_s)
    pictures = np.stack([_wide(thumbs[index]).ravel() for index in picked])
    is_mixed = np.zeros(len(picked), bool)
    for half_width_s, least in _WINDOWS:
        half = max(1, round(half_width_s * _SLOW_FPS))
        if len(picked) > 2 * half:
            is_mixed[half:-half] |= _mixed(pictures[: -2 * half], pictures[half:-half], pictures[2 * half :], least)
    found: list[Transition] = []
    for start, end in _runs(is_mixed):
        first, last = _extent(pictures, start, end)
        transition = Transition("slow", picked[first], picked[last])
        # A fade to black and the fade from it are one transition.
        if found and times_s[transition.first] - times_s[found[-1].last] < 0.5:
            transition = Transition("slow", found.pop().first, transition.last)
        found.append(transition)
    return found


def _mixed(before: np.ndarray, middle: np.ndarray, after: np.ndarray, least: float) -> np.ndarray:
    """Return which of the frames `middle` `[N, P]` are mixtures of both others."""
    difference = before - after
    energy = np.maximum((difference**2).sum(axis=1), 1e-6)
    weight = ((middle - after) * difference).sum(axis=1) / energy
    residual = np.abs(middle - after - weight[:, None] * difference).mean(axis=1)
    distance = np.abs(difference).mean(axis=1)
    return (distance > least) & (abs(weight - 0.5) < 0.3) & (residual < _MAX_RESIDUAL * distance)


def _extent(pictures: np.ndarray, start: int, end: int) -> tuple[int, int]:
    """Return where the change around the mixed frames `start` to `end` begins and ends."""
    reach = round(_WINDOWS[-1][0] * _SLOW_FPS)
    low, high = max(0, start - reach), min(len(pictures) - 1, end + reach)
    difference = pictures[low] - pictures[high]
    energy = max(float((difference**2).sum()), 1e-6)
    weights = (pictures[low : high + 1] - pictures[high]) @ difference / energy
    first, last = start - low, end - low
    inner_first, inner_last = max(0, first - 1), min(high - low, last + 1)
    # The mixture changes steadily; motion within the shots changes the weight, too, but more slowly.
    least = _LEAST_STEP * (weights[inner_first] - weights[inner_last]) / max(1, inner_last - inner_first)
    while first > 0 and weights[first] < 0.93 and weights[first - 1] - weights[first] >= least:
        first -= 1
    while last < high - low and weights[last] > 0.07 and weights[last] - weights[last + 1] >= least:
        last += 1
    return low + first, low + last


def _regular(times_s: Sequence[float]) -> list[int]:
    """Return the frames nearest to `_SLOW_FPS` times per second."""
    times = np.asarray(times_s)
    wanted = np.arange(times[0], times[-1], 1 / _SLOW_FPS)
    return list(dict.fromkeys(np.clip(np.searchsorted(times, wanted), 0, len(times) - 1).tolist()))


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return first and last index of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(start), int(stop) - 1) for start, stop in edges.reshape(-1, 2)]


def _wide(thumb: np.ndarray) -> np.ndarray:
    return thumb.astype(np.float32)
