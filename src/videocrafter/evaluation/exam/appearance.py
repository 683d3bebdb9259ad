"""Sharpness and flicker of clips, from pixels alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from videocrafter.evaluation.exam.clips import to_bytes
from videocrafter.evaluation.metrics.flicker import flicker_score
from videocrafter.evaluation.metrics.frame import Frame, VideoContext
from videocrafter.evaluation.metrics.sharpness import edge_energy, laplacian_variance


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """Measurements of N clips, means over their frames.

    Attributes:
        laplacian: [N] variance of the Laplacian of luma, in squared grey levels.
        edges: [N] mean absolute difference between neighbouring pixels, in grey levels.
        flicker: [N] mean absolute difference between consecutive frames, in grey levels.
    """

    laplacian: NDArray[np.float64]
    edges: NDArray[np.float64]
    flicker: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: Sequence[Appearance]) -> Appearance:
        """Return the measurements of several batches as one."""
        laplacian, edges, flicker = (
            np.concatenate([getattr(part, kind) for part in parts]) for kind in ("laplacian", "edges", "flicker")
        )
        return cls(laplacian=laplacian, edges=edges, flicker=flicker)


def appearance(clips: Tensor) -> Appearance:
    """Measure clips [N, T, 3, H, W] in [-1, 1]."""
    rows = [_measured(to_bytes(clip)) for clip in clips]
    laplacian, edges, flicker = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return Appearance(laplacian=laplacian, edges=edges, flicker=flicker)


def _measured(frames: NDArray[np.uint8]) -> tuple[float, float, float]:
    lumas = [Frame(frame, VideoContext()).luma for frame in frames]
    steps = [255.0 * (1.0 - flicker_score(before, after)) for before, after in pairwise(frames)]
    return (
        float(np.mean([laplacian_variance(luma) for luma in lumas])),
        float(np.mean([edge_energy(luma) for luma in lumas])),
        float(np.mean(steps)) if steps else float("nan"),
    )
