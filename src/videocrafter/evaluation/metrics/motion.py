"""Amount of motion: flow magnitude, amplitude class, and dynamic degree."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from videocrafter.evaluation.metrics.frame import FLOW_SHORT_SIDE, Frame
from videocrafter.evaluation.metrics.optical_flow import dense_flow

# VBench: the fastest 5 % of the pixels must exceed 6 pixels at a short side of 256, in 4 of every 16 pairs of frames
# at about 8 frames per second.
_FASTEST_SHARE, _DYNAMIC_PIXELS, _DYNAMIC_PAIRS, _DYNAMIC_FPS = 0.05, 6.0, 4 / 16, 8.0

AMPLITUDE_THRESHOLD_PAPER = 2.0
AMPLITUDE_THRESHOLD_CODE = 5.0
"""Flow above which EvalCrafter calls motion large: in its paper, and in its released code."""


def mean_magnitude(flow: NDArray[np.float32]) -> float:
    """Return the mean length of flow vectors [H, W, 2], in pixels."""
    return float(np.hypot(flow[..., 0], flow[..., 1]).mean(dtype=np.float64))


def is_amplitude_right(magnitude: float, asked: str, threshold: float) -> float:
    """Return 1 if the motion is as large as the prompt asks for, else 0 (EvalCrafter's motion AC-score).

    Args:
        magnitude: mean flow magnitude of the video, in pixels per frame.
        asked: "large" or "slow".
        threshold: magnitude above which motion is large.
    """
    return float((magnitude > threshold) == (asked == "large"))


class DynamicDegree:
    """1 if a video moves, else 0: VBench's rule with DIS flow in place of RAFT, so a proxy.

    Args:
        fps: frame rate of the video; frames are taken at about 8 per second.
    """

    def __init__(self, fps: float) -> None:
        self._interval = max(1, round(fps / _DYNAMIC_FPS))
        self._last: NDArray[np.uint8] | None = None
        self._num_frames = self._num_fast = 0

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        if frame.index % self._interval:
            return
        self._num_frames += 1
        if self._last is not None:
            flow = frame.flow()[0] if self._interval == 1 else dense_flow(self._last, frame.small_rgb)
            self._num_fast += fastest_mean(flow) > _DYNAMIC_PIXELS * FLOW_SHORT_SIDE / 256
        self._last = frame.small_rgb

    def value(self) -> float:
        """Return 1 or 0; NaN with fewer than two sampled frames."""
        if self._num_frames < 2:
            return math.nan
        return float(self._num_fast >= max(1, round(_DYNAMIC_PAIRS * self._num_frames)))


def fastest_mean(flow: NDArray[np.float32]) -> float:
    """Return the mean length of the longest 5 % of flow vectors [H, W, 2], in pixels."""
    lengths = np.sort(np.hypot(flow[..., 0], flow[..., 1]), axis=None)
    return float(lengths[-max(1, int(_FASTEST_SHARE * lengths.size)) :].mean(dtype=np.float64))
