import numpy as np
import pytest

from tests.unit.evaluation.metrics.frames import frames_of
from videocrafter.evaluation.metrics.bleu import mean_bleu
from videocrafter.evaluation.metrics.captions import CaptionScore


def test_five_frames_are_captioned_and_compared_with_the_prompt():
    seen = []

    def caption(frames):
        seen.extend(int(frame[0, 0, 0]) for frame in frames)
        return ["a red kite over the sea"] * len(frames)

    pictures = np.zeros((9, 2, 2, 3), np.uint8)
    pictures[..., 0] = np.arange(9)[:, None, None]
    running = CaptionScore(caption, mean_bleu, "a red kite over the sea")
    for frame in frames_of(pictures):
        running.add(frame)
    assert running.value() == pytest.approx(1)
    assert seen == [0, 2, 4, 6, 8]
    seen.clear()
    swapped = CaptionScore(caption, mean_bleu, "a dog", reverses_colours=True)
    for frame in frames_of(pictures[:2]):
        swapped.add(frame)
    assert swapped.value() == 0
    assert seen == [0, 0]  # blue, which is 0, in place of red
