"""CLIP score of a whole video: the cosine of the prompt and the mean of the frames' embeddings."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from videocrafter.evaluation.metrics.consistency import cosine
from videocrafter.evaluation.metrics.frame import Frame


class VideoTextCosine:
    """Cosine of the prompt's embedding and the mean of the unit vectors of all frames.

    Frames that disagree shorten the mean but do not turn it, so this score is at least the mean of the cosines per
    frame if that is positive.
    """

    def __init__(self, embedder: str) -> None:
        self._embedder = embedder
        self._sum: NDArray[np.float64] | None = None
        self._text: NDArray[np.float32] | None = None

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        vector = frame.embeddings[self._embedder].astype(np.float64)
        self._sum = vector if self._sum is None else self._sum + vector
        self._text = frame.video.text_embeddings[self._embedder]

    def value(self) -> float:
        """Return the cosine."""
        if self._sum is None or self._text is None:
            return math.nan
        return cosine(self._sum.astype(np.float32), self._text)
