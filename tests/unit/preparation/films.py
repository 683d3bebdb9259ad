"""Small films with known contents."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from benchmarks.truth_films import FPS, Shot, shot_frames

from videocrafter.media.video_encoding import encode_video
from videocrafter.preparation.config import PrepareConfig, SourceLimits
from videocrafter.training.recipes.overrides import apply_overrides

SIZE = (90, 160)


def shot(seed: int, length: int, kind: str = "plain", size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Frames of one shot."""
    return list(shot_frames(Shot(seed=seed, kind=kind), length, *size))


def dissolve(before: np.ndarray, after: np.ndarray, length: int) -> list[np.ndarray]:
    """Frames between two shots."""
    return [
        cv2.addWeighted(before, 1 - step / (length + 1), after, step / (length + 1), 0)
        for step in range(1, length + 1)
    ]


def write_film(path: Path, frames: Sequence[np.ndarray], **options: str) -> Path:
    """Write an mp4 at 24 frames per second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_video(frames, FPS, options={"preset": "ultrafast", "crf": "18", **options}))
    return path


def small_config(*assignments: str) -> PrepareConfig:
    """Settings for films of the size above. No validation split: it depends on the path and the time of each film."""
    settings = ("workers=1", "clip.preset=ultrafast", "select.floors.min_bits_per_pixel=0", "select.validation=0")
    return apply_overrides(PrepareConfig(sources=SourceLimits(min_side=32)), [*settings, *assignments])
