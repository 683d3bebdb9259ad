"""Frames for tests of metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from videocrafter.evaluation.metrics.frame import Frame, VideoContext


def moving_texture(step: int, count: int = 4, size: int = 256) -> np.ndarray:
    """A smooth texture that moves right by `step` pixels per frame: uint8 `[T, H, W, 3]`."""
    noise = np.random.default_rng(1).uniform(0, 255, (size, size + step * count, 3)).astype(np.float32)
    texture = cv2.GaussianBlur(noise, (0, 0), 4)
    texture = ((texture - texture.min()) / np.ptp(texture) * 255).astype(np.uint8)
    starts = [step * (count - index) for index in range(count)]
    return np.stack([texture[:, start : start + size] for start in starts])


def frames_of(
    pictures: np.ndarray, embeddings: Mapping[str, Sequence[Sequence[float]]] | None = None, **context: Any
) -> Iterator[Frame]:
    """Frames of a video in order, with given embeddings."""
    video = VideoContext(**context)
    previous = None
    for index, picture in enumerate(pictures):
        frame = Frame(picture, video, previous)
        for name, rows in (embeddings or {}).items():
            frame.embeddings[name] = np.array(rows[index], np.float32)
        yield frame
        previous = frame
