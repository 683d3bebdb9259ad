"""Measurements of a walk through a video: some of every frame, more of a few frames per second.

Pictures are small (the long side has 256 pixels by default). Measurements that depend on the crop are kept by cell of
a coarse grid or by row and column, because black bars are known only when a shot is over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from videocrafter.preparation.scan.crop import is_bar

# Cells along the long side of the grid.
_CELLS = 16
# Pixels along the long side of the thumbnails in which transitions and copies are sought.
_THUMB = 32
_DARK, _BRIGHT = 5, 250
# Hands shake at up to 8 Hz.
_SHIFT_INTERVAL_S = 1 / 17
# Response of phase correlation below which the two pictures are different ones.
_NOTHING_IN_COMMON = 0.1


@dataclass
class Samples:
    """Measurements of sampled frames, lists of equal length; `Y X` is the grid.

    Attributes:
        frame: number of the frame within the walk.
        luma, saturation: means of cells, `[Y, X]`.
        dark, bright: shares of pixels at the ends of the range, `[Y, X]`.
        sharpness: mean squared Laplacian, `[Y, X]`.
        flow: displacement since the sample before, in pixels, `[Y, X, 2]`; zeros for the first sample.
        speed: mean length of the displacement, in pixels, `[Y, X]`.
        rows, columns: mean and deviation of luma in each row and each column, `[2, H]` and `[2, W]`.
    """

    frame: list[int] = field(default_factory=list)
    luma: list[np.ndarray] = field(default_factory=list)
    saturation: list[np.ndarray] = field(default_factory=list)
    dark: list[np.ndarray] = field(default_factory=list)
    bright: list[np.ndarray] = field(default_factory=list)
    sharpness: list[np.ndarray] = field(default_factory=list)
    flow: list[np.ndarray] = field(default_factory=list)
    speed: list[np.ndarray] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    columns: list[np.ndarray] = field(default_factory=list)


class Shift(NamedTuple):
    """Velocity of the whole picture up to frame `frame`, in diagonals per second."""

    frame: int
    x: float
    y: float


@dataclass
class Frames:
    """Measurements of every frame, lists of equal length.

    Attributes:
        time_s: seconds from the start of the video.
        change: largest mean difference to the frame before of any cell, 0 to 255.
        is_damaged: whether errors were concealed.
        thumb: the picture, `[h, w, 3]` uint8.
        shifts: motion of the whole picture, for fewer frames.
    """

    time_s: list[float] = field(default_factory=list)
    change: list[float] = field(default_factory=list)
    is_damaged: list[bool] = field(default_factory=list)
    thumb: list[np.ndarray] = field(default_factory=list)
    shifts: list[Shift] = field(default_factory=list)


class Recorder:
    """Measures the pictures of a walk.

    Args:
        height, width: size of the pictures.
        sample_fps: samples per second.

    Attributes:
        frames, samples: the measurements so far.
        area: rows and columns in which a sample so far showed something, so without bars that are always there.
        pictures: small JPEG of each sample, at most two per second, by number of the frame.
    """

    def __init__(self, height: int, width: int, sample_fps: float) -> None:
        self.frames, self.samples = Frames(), Samples()
        self.pictures: dict[int, np.ndarray] = {}
        self.size = (height, width)
        self.area = (slice(0, height), slice(0, width))
        self._is_lit = (np.zeros(height, bool), np.zeros(width, bool))
        self.grid = _fit(height, width, _CELLS)
        self.diagonal = float(np.hypot(height, width))
        self._thumb = _fit(height, width, _THUMB)
        self._interval_s = 1 / sample_fps
        self._next_sample_s = -np.inf
        # The second fastest preset: twice the speed of the next one, and as good at this size.
        self._optical_flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._window = cv2.createHanningWindow((64, 64), cv2.CV_32F)
        self._gray: np.ndarray | None = None
        self._square: np.ndarray | None = None
        self._square_s = -np.inf
        self._sampled: np.ndarray | None = None

    def add(self, time_s: float, rgb: np.ndarray, *, is_damaged: bool) -> None:
        """Measure a frame, uint8 `[H, W, 3]`."""
        gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        frames = self.frames
        frames.time_s.append(time_s)
        frames.is_damaged.append(is_damaged)
        frames.thumb.append(cv2.resize(rgb, self._thumb[::-1], interpolation=cv2.INTER_AREA))
        change = 255.0 if self._gray is None else float(self._cells(cv2.absdiff(gray, self._gray)).max())
        frames.change.append(change)
        self._gray = gray
        if time_s >= self._next_sample_s - 1e-6:
            start = time_s if self._next_sample_s == -np.inf else self._next_sample_s
            # Not the time of this frame plus the interval, which would sample 24 frames per second every 7th frame.
            self._next_sample_s = max(start + self._interval_s, time_s + self._interval_s / 2)
            self._sample(rgb, gray)
        if time_s >= self._square_s + _SHIFT_INTERVAL_S:
            frames.shifts.append(self._shift(gray, time_s))

    def _shift(self, gray: np.ndarray, time_s: float) -> Shift:
        # Bars do not move with the picture.
        gray = gray[self.area]
        square = cv2.resize(gray, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32)
        before, before_s = self._square, self._square_s
        self._square, self._square_s = square, time_s
        number = len(self.frames.time_s) - 1
        if before is None:
            return Shift(number, 0.0, 0.0)
        (x, y), response = cv2.phaseCorrelate(before, square, self._window)
        if response < _NOTHING_IN_COMMON:
            return Shift(number, 0.0, 0.0)
        height, width = gray.shape
        scale = 1 / (64 * self.diagonal * (time_s - before_s))
        return Shift(number, x * width * scale, y * height * scale)

    def _sample(self, rgb: np.ndarray, gray: np.ndarray) -> None:
        samples = self.samples
        number = len(self.frames.time_s) - 1
        samples.frame.append(number)
        samples.luma.append(self._cells(gray))
        samples.saturation.append(self._cells(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)[..., 1]))
        samples.dark.append(self._cells((gray <= _DARK).astype(np.float32)))
        samples.bright.append(self._cells((gray >= _BRIGHT).astype(np.float32)))
        laplacian = cv2.Laplacian(gray, cv2.CV_32F)
        samples.sharpness.append(self._cells(laplacian * laplacian))
        flow = np.zeros((*self.size, 2), np.float32)
        if self._sampled is not None:
            self._optical_flow.calc(self._sampled, gray, flow)
        samples.flow.append(self._cells(flow))
        samples.speed.append(self._cells(np.hypot(flow[..., 0], flow[..., 1])))
        wide = gray.astype(np.float32)
        samples.rows.append(np.stack([wide.mean(axis=1), wide.std(axis=1)]))
        samples.columns.append(np.stack([wide.mean(axis=0), wide.std(axis=0)]))
        self._extend_area()
        self._sampled = gray
        if len(samples.frame) % 2:
            scale = min(1.0, 160 / max(self.size))
            size = (round(self.size[1] * scale), round(self.size[0] * scale))
            _, jpeg = cv2.imencode(
                ".jpg", cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR), _JPEG
            )
            self.pictures[number] = jpeg

    def _extend_area(self) -> None:
        bounds = []
        for is_lit, lines in zip(self._is_lit, (self.samples.rows[-1], self.samples.columns[-1]), strict=True):
            is_lit |= ~is_bar(lines)
            lit = np.flatnonzero(is_lit)
            if len(lit) < 0.2 * len(is_lit):
                return  # a black picture so far
            bounds.append(slice(int(lit[0]), int(lit[-1]) + 1))
        area = (bounds[0], bounds[1])
        if area != self.area:
            self.area, self._square = area, None  # squares of other areas cannot be compared

    def _cells(self, values: np.ndarray) -> np.ndarray:
        return cv2.resize(values, self.grid[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)


_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 60)


def _fit(height: int, width: int, long_side: int) -> tuple[int, int]:
    scale = long_side / max(height, width)
    return max(4, round(height * scale)), max(4, round(width * scale))
