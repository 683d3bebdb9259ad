"""Metrics of networks that take a whole clip: quality scores and action recognition."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from videocrafter.evaluation.metrics.frame import Frame

Output = NDArray[np.float32]


class FirstFrames:
    """The first frames of a video, for networks that take whole clips.

    Args:
        most: number of frames kept at most, so that memory does not grow with the length of the video.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.frames: list[NDArray[np.uint8]] = []

    def add(self, frame: Frame) -> None:
        """Keep the next frame if there is room."""
        if len(self.frames) < self._most:
            self.frames.append(frame.rgb)


class ScoreOfClip:
    """A number computed from a network's output for the first frames of a video.

    Args:
        network: returns an output [D] for frames [H, W, 3] uint8.
        score: returns the number.
        most: number of frames that the network sees at most.
    """

    def __init__(
        self,
        network: Callable[[list[NDArray[np.uint8]]], Output],
        score: Callable[[Output], float],
        *,
        most: int = 64,
    ) -> None:
        self._network, self._score = network, score
        self._first = FirstFrames(most)

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        self._first.add(frame)

    def value(self) -> float:
        """Return the score."""
        return self._score(self._network(self._first.frames))


def dover_scores(output: Output) -> tuple[float, float]:
    """Return DOVER's (aesthetic, technical) quality in [0, 100] from its raw outputs (EvalCrafter's calibration)."""
    aesthetic, technical = (float(output[0]) - 0.1253) / 0.0318, (float(output[1]) + 0.0758) / 0.0129
    return 100.0 / (1.0 + math.exp(-aesthetic)), 100.0 / (1.0 + math.exp(-technical))
