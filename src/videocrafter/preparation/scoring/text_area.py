"""The share of the picture that text covers, by the detection network that the `rapidocr` package contains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np


class TextArea:
    """Measures the area of text.

    Args:
        detect: returns the corners of boxes, `[N, 4, 2]` in pixels or None, of a picture, uint8 BGR `[H, W, 3]`.
    """

    def __init__(self, detect: Callable[[np.ndarray], Any] | None = None) -> None:
        self._detect = detect or _rapidocr()

    def score(self, frames: Sequence[np.ndarray]) -> float:
        """Return the share of frames, uint8 RGB `[H, W, 3]`, that boxes around text cover, from 0 to 1."""
        return float(np.mean([self._share(frame) for frame in frames]))

    def _share(self, frame: np.ndarray) -> float:
        boxes = self._detect(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        covered = np.zeros(frame.shape[:2], np.uint8)
        # Boxes overlap, so areas cannot be added.
        for box in () if boxes is None else boxes:
            cv2.fillConvexPoly(covered, np.asarray(box).round().astype(np.int32), 1)
        return float(covered.mean())


def _rapidocr() -> Callable[[np.ndarray], Any]:
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise ValueError(
            "score.text needs the package rapidocr; run pip install rapidocr onnxruntime, or set score.text=false"
        ) from error
    # One thread, so that the boxes do not depend on the machine.
    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    engine = RapidOCR(params={"Global.log_level": "warning", **threads})
    return lambda picture: engine(picture, use_det=True, use_cls=False, use_rec=False).boxes
