"""Running values of a metric over the frames of one video: memory does not grow with its length."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from videocrafter.evaluation.metrics.frame import Frame


class Running(Protocol):
    """The value of a metric for one video while its frames arrive in order."""

    def add(self, frame: Frame) -> None:
        """Take the next frame."""

    def value(self) -> float:
        """Return the metric's value; NaN if the video has too few frames for it."""


class MeanOfFrames:
    """Mean of a number per frame; frames whose number is NaN do not count."""

    def __init__(self, of_frame: Callable[[Frame], float]) -> None:
        self._of_frame = of_frame
        self._sum, self._count = 0.0, 0

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        if not math.isnan(number := self._of_frame(frame)):
            self._sum += number
            self._count += 1

    def value(self) -> float:
        """Return the mean; NaN without any number."""
        return self._sum / self._count if self._count else math.nan


class MeanOfPairs:
    """Mean of a number per pair of consecutive frames; the function receives the second one. NaN does not count."""

    def __init__(self, of_pair: Callable[[Frame], float]) -> None:
        self._mean = MeanOfFrames(of_pair)

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        if frame.previous is not None:
            self._mean.add(frame)

    def value(self) -> float:
        """Return the mean; NaN for a video of one frame."""
        return self._mean.value()


class OfFirstFrame:
    """A number of the first frame alone."""

    def __init__(self, of_frame: Callable[[Frame], float]) -> None:
        self._of_frame = of_frame
        self._value = math.nan

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        if frame.index == 0:
            self._value = self._of_frame(frame)

    def value(self) -> float:
        """Return the number."""
        return self._value


class Mapped:
    """A function of another running value."""

    def __init__(self, running: Running, function: Callable[[float], float]) -> None:
        self._running, self._function = running, function

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        self._running.add(frame)

    def value(self) -> float:
        """Return the function of the other value; NaN stays NaN."""
        value = self._running.value()
        return value if math.isnan(value) else self._function(value)
