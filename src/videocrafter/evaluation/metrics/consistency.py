"""Temporal consistency from embeddings: cosines of a frame with the frame before and with the first one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from videocrafter.evaluation.metrics.frame import Embedding, Frame


def cosine(one: Embedding, other: Embedding) -> float:
    """Return the cosine of two vectors; 0 if either is zero."""
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one.astype(np.float64) @ other.astype(np.float64)) / length if length else 0.0


def with_previous(embedder: str) -> Callable[[Frame], float]:
    """Return the cosine with the frame before (CLIP-Temp of EvalCrafter, with CLIP embeddings)."""

    def of_pair(frame: Frame) -> float:
        assert frame.previous is not None
        return cosine(frame.embeddings[embedder], frame.previous.embeddings[embedder])

    return of_pair


def with_first(embedder: str) -> Callable[[Frame], float]:
    """Return the cosine with the first frame (EvalCrafter's "face consistency", which looks at whole frames)."""
    return lambda frame: cosine(frame.embeddings[embedder], frame.first.embeddings[embedder])


def with_previous_and_first(embedder: str) -> Callable[[Frame], float]:
    """Return the mean of both cosines, each at least 0 (VBench: subject with DINO, background with CLIP)."""
    previous, first = with_previous(embedder), with_first(embedder)
    return lambda frame: 0.5 * (max(0.0, previous(frame)) + max(0.0, first(frame)))


def with_prompt(embedder: str) -> Callable[[Frame], float]:
    """Return the cosine of a frame and the prompt (CLIP score)."""
    return lambda frame: cosine(frame.embeddings[embedder], frame.video.text_embeddings[embedder])


def with_image(embedder: str) -> Callable[[Frame], float]:
    """Return the cosine of a frame and the input image of image to video."""
    return lambda frame: cosine(frame.embeddings[embedder], frame.video.image_embeddings[embedder])
