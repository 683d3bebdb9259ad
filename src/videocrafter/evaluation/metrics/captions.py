"""BLIP-BLEU: captions of five frames, by a user's captioner, compared with the prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from videocrafter.evaluation.metrics.frame import Frame
from videocrafter.evaluation.metrics.whole_clip import FirstFrames

_CAPTIONS = 5


class CaptionScore:
    """A score of captions of five evenly spaced frames against the prompt.

    Args:
        caption: returns one text per frame.
        score: returns the score of captions and a prompt.
        prompt: the prompt.
        reverses_colours: pass blue as red, as EvalCrafter's released code does.
    """

    def __init__(
        self,
        caption: Callable[[list[NDArray[np.uint8]]], list[str]],
        score: Callable[[Sequence[str], str], float],
        prompt: str,
        *,
        reverses_colours: bool = False,
    ) -> None:
        self._caption, self._score, self._prompt, self._reverses = caption, score, prompt, reverses_colours
        self._first = FirstFrames(256)

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        self._first.add(frame)

    def value(self) -> float:
        """Return the score."""
        frames = self._first.frames
        if not frames:
            return math.nan
        chosen = [frames[round(place)] for place in np.linspace(0, len(frames) - 1, min(_CAPTIONS, len(frames)))]
        if self._reverses:
            chosen = [np.ascontiguousarray(frame[..., ::-1]) for frame in chosen]
        return self._score(self._caption(chosen), self._prompt)
