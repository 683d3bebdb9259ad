"""Measurements of a walk through a video: some of every frame, more of a few frames per second.

Every frame is measured in a picture of a few thousand pixels, a sample in one whose long side has 256 pixels by
default. Measurements that depend on the crop are kept by cell of a coarse grid or by row and column, because black
bars are known only when a shot is over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from videocrafter.media.framing import Framing
from videocrafter.media.video_reader import WalkedFrame
from videocrafter.preparation.scan.crop import WHOLE, is_bar
from videocrafter.preparation.scan.small_picture import SmallPicture
from videocrafter.preparation.scan.transitions import Area

# Cells along the long side of the grid.
_CELLS = 16
# Pixels along the long side of the thumbnails in which transitions and copies are sought.
_THUMB = 32
_DARK, _BRIGHT = 5, 250
# Hands shake at up to 8 Hz. The velocity is measured twice in a row, twice per second.
_SHIFT_INTERVAL_S = 1 / 17
_JERK_INTERVAL_S = 0.5
# Response of phase correlation below which the two pictures are different ones.
_NOTHING_IN_COMMON = 0.1


@dataclass
class Samples:
    """Measurements of sampled frames, lists of equal length; `Y X` is the grid.

    Attributes:
        frame: number of the frame within the walk.
        thumb: luma of the picture, `[h, w]` uint8.
        luma, saturation: means of cells, `[Y, X]`.
        dark, bright: shares of pixels at the ends of the range, `[Y, X]`.
        sharpness: mean squared Laplacian, `[Y, X]`.
        flow: displacement since the sample before, in pixels, `[Y, X, 2]`; for every second sample, else NaN.
        speed: mean length of the displacement, in pixels, `[Y, X]`.
        rows, columns: mean and deviation of luma in each row and each column, `[2, H]` and `[2, W]`.
    """

    frame: list[int] = field(default_factory=list)
    thumb: list[np.ndarray] = field(default_factory=list)
    luma: list[np.ndarray] = field(default_factory=list)
    saturation: list[np.ndarray] = field(default_factory=list)
    dark: list[np.ndarray] = field(default_factory=list)
    bright: list[np.ndarray] = field(default_factory=list)
    sharpness: list[np.ndarray] = field(default_factory=list)
    flow: list[np.ndarray] = field(default_factory=list)
    speed: list[np.ndarray] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    columns: list[np.ndarray] = field(default_factory=list)


class Jerk(NamedTuple):
    """Change of the velocity of the whole picture at frame `frame`, in diagonals per second."""

    frame: int
    change: float


@dataclass
class Frames:
    """Measurements of every frame, lists of equal length.

    Attributes:
        time_s: seconds from the start of the video.
        change: largest mean difference to the frame before of any cell, 0 to 255.
        is_damaged: whether errors were concealed.
        thumb: the picture, `[h, w, 3]` uint8.
        jerks: changes of the motion of the whole picture, for fewer frames.
    """

    time_s: list[float] = field(default_factory=list)
    change: list[float] = field(default_factory=list)
    is_damaged: list[bool] = field(default_factory=list)
    thumb: list[np.ndarray] = field(default_factory=list)
    jerks: list[Jerk] = field(default_factory=list)


class Recorder:
    """Measures the pictures of a walk.

    Args:
        height, width: size of the samples, in pixels.
        sample_fps: samples per second.

    Attributes:
        frames, samples: the measurements so far.
        pictures: small JPEG of each sample, at most two per second, by number of the frame.
    """

    def __init__(self, height: int, width: int, sample_fps: float) -> None:
        self.frames, self.samples = Frames(), Samples()
        self.pictures: dict[int, np.ndarray] = {}
        self.size = (height, width)
        self.grid = _fit(height, width, _CELLS)
        self.diagonal = float(np.hypot(height, width))
        self._is_lit = (np.zeros(height, bool), np.zeros(width, bool))
        self._crop = WHOLE
        self._thumb = _fit(height, width, _THUMB)
        self._interval_s = 1 / sample_fps
        self._next_sample_s = -np.inf
        # At half the size, the second fastest preset is as good as at the whole size, in a quarter of the time.
        self._optical_flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._sampled: np.ndarray | None = None
        self._luma: np.ndarray | None = None
        self._moments: list[tuple[float, np.ndarray]] = []
        self._next_moment_s = -np.inf
        self._window: np.ndarray = np.empty((0, 0), np.float32)

    def area(self, height: int, width: int) -> Area:
        """Return rows and columns of a picture in which a sample so far showed something: without lasting bars."""
        top, bottom, left, right = self._crop
        return (
            slice(math.ceil(top * height), max(1, math.floor(bottom * height))),
            slice(math.ceil(left * width), max(1, math.floor(right * width))),
        )

    def add(self, frame: WalkedFrame, picture: SmallPicture) -> None:
        """Measure a frame, and take a sample of it if one is due."""
        frames, time_s = self.frames, frame.time_s
        frames.time_s.append(time_s)
        frames.is_damaged.append(frame.is_damaged)
        frames.thumb.append(cv2.resize(picture.rgb, self._thumb[::-1], interpolation=cv2.INTER_AREA))
        before, self._luma = self._luma, picture.luma
        change = 255.0
        if before is not None:
            change = _largest_cell(cv2.absdiff(picture.luma, before)) * picture.luma_step
        frames.change.append(change)
        if time_s >= self._next_sample_s - 1e-6:
            start = time_s if self._next_sample_s == -np.inf else self._next_sample_s
            # Not the time of this frame plus the interval, which would sample 24 frames per second every 7th frame.
            self._next_sample_s = max(start + self._interval_s, time_s + self._interval_s / 2)
            self._sample(frame, picture)
        if time_s >= self._next_moment_s:
            self._add_moment(picture.half, time_s)

    def _add_moment(self, picture: np.ndarray, time_s: float) -> None:
        """Keep a picture; of three, measure by how much the velocity changes."""
        # Bars do not move with the picture.
        inside = picture[self.area(*picture.shape)].astype(np.float32)
        if self._moments and self._moments[-1][1].shape != inside.shape:
            self._moments.clear()
        self._moments.append((time_s, inside))
        self._next_moment_s = time_s + _SHIFT_INTERVAL_S
        if len(self._moments) == 3:
            start, middle, end = self._moments
            velocities = self._velocity(start, middle), self._velocity(middle, end)
            if velocities[0] is not None and velocities[1] is not None:
                scale = np.array([self.size[1] / picture.shape[1], self.size[0] / picture.shape[0]]) / self.diagonal
                change = np.hypot(*(scale * (velocities[1] - velocities[0])))
                self.frames.jerks.append(Jerk(len(self.frames.time_s) - 1, float(change)))
            self._next_moment_s = start[0] + _JERK_INTERVAL_S
            self._moments.clear()

    def _velocity(self, before: tuple[float, np.ndarray], after: tuple[float, np.ndarray]) -> np.ndarray | None:
        """Return pixels per second (x, y) of the whole picture; None if both have nothing in common."""
        if self._window.shape != after[1].shape:
            self._window = cv2.createHanningWindow(after[1].shape[::-1], cv2.CV_32F)
        shift, response = cv2.phaseCorrelate(before[1], after[1], self._window)
        return None if response < _NOTHING_IN_COMMON else np.array(shift) / (after[0] - before[0])

    def _sample(self, frame: WalkedFrame, picture: SmallPicture) -> None:
        samples, number = self.samples, len(self.frames.time_s) - 1
        gray = picture.gray(*self.size)
        samples.frame.append(number)
        samples.thumb.append(cv2.resize(gray, self._thumb[::-1], interpolation=cv2.INTER_AREA))
        samples.luma.append(self._cells(gray))
        samples.saturation.append(self._cells(cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2HSV)[..., 1]))
        samples.dark.append(self._cells(cv2.inRange(gray, 0, _DARK)) / 255)
        samples.bright.append(self._cells(cv2.inRange(gray, _BRIGHT, 255)) / 255)
        laplacian = cv2.Laplacian(gray, cv2.CV_32F)
        samples.sharpness.append(self._cells(cv2.multiply(laplacian, laplacian)))
        flow, speed = self._flow(gray)
        samples.flow.append(flow)
        samples.speed.append(speed)
        samples.rows.append(_mean_and_deviation(gray, 1))
        samples.columns.append(_mean_and_deviation(gray, 0))
        self._extend_area()
        if len(samples.frame) % 2:
            self.pictures[number] = self._jpeg(frame)

    def _flow(self, gray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        small = cv2.resize(gray, (self.size[1] // 2, self.size[0] // 2), interpolation=cv2.INTER_AREA)
        before, self._sampled = self._sampled, small
        if before is None or len(self.samples.frame) % 2:
            return np.full((*self.grid, 2), np.nan, np.float32), np.full(self.grid, np.nan, np.float32)
        flow = np.zeros((*small.shape, 2), np.float32)
        self._optical_flow.calc(before, small, flow)
        return 2 * self._cells(flow), 2 * self._cells(cv2.magnitude(flow[..., 0], flow[..., 1]))

    def _jpeg(self, frame: WalkedFrame) -> np.ndarray:
        height, width = self.size
        scale = min(1.0, 160 / max(height, width))
        rgb = frame.pixels(Framing(height=round(height * scale), width=round(width * scale)))
        return cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), _JPEG)[1]

    def _extend_area(self) -> None:
        bounds: list[float] = []
        for is_lit, lines in zip(self._is_lit, (self.samples.rows[-1], self.samples.columns[-1]), strict=True):
            is_lit |= ~is_bar(lines)
            lit = np.flatnonzero(is_lit)
            if len(lit) < 0.2 * len(is_lit):
                return  # a black picture so far
            bounds += [lit[0] / len(is_lit), (lit[-1] + 1) / len(is_lit)]
        self._crop = (bounds[0], bounds[1], bounds[2], bounds[3])

    def _cells(self, values: np.ndarray) -> np.ndarray:
        return cv2.resize(values, self.grid[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)


def _largest_cell(difference: np.ndarray) -> float:
    """Return the largest mean of a cell; cells of whole pixels are fast."""
    side = max(1, max(difference.shape) // _CELLS)
    rows, columns = difference.shape[0] // side, difference.shape[1] // side
    inside = difference[: rows * side, : columns * side]
    return cv2.norm(cv2.resize(inside, (columns, rows), interpolation=cv2.INTER_AREA), cv2.NORM_INF)


def _mean_and_deviation(gray: np.ndarray, axis: int) -> np.ndarray:
    """Return mean and deviation of each row (axis 1) or column (axis 0), `[2, lines]`."""
    mean = cv2.reduce(gray, axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
    square = cv2.reduce(gray, axis, cv2.REDUCE_SUM2, dtype=cv2.CV_32F).ravel() / gray.shape[axis]
    return np.stack([mean, np.sqrt(np.maximum(square - mean * mean, 0))])


_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 60)


def _fit(height: int, width: int, long_side: int) -> tuple[int, int]:
    scale = long_side / max(height, width)
    return max(4, round(height * scale)), max(4, round(width * scale))
