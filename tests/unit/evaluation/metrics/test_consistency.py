import numpy as np
import pytest

from tests.unit.evaluation.metrics.frames import frames_of
from videocrafter.evaluation.metrics import consistency
from videocrafter.evaluation.metrics.clip_video_score import VideoTextCosine
from videocrafter.evaluation.metrics.running import MeanOfFrames, MeanOfPairs, OfFirstFrame, Running

ROWS = [(1, 0), (0.6, 0.8), (0, 1)]


def value(running: Running) -> float:
    pictures = np.zeros((3, 4, 4, 3), np.uint8)
    text = {"clip": np.array([0, 1], np.float32)}
    image = {"clip": np.array([2, 0], np.float32)}
    for frame in frames_of(pictures, {"clip": ROWS}, text_embeddings=text, image_embeddings=image):
        running.add(frame)
    return running.value()


def test_cosines_with_frames_prompt_and_image():
    assert value(MeanOfPairs(consistency.with_previous("clip"))) == pytest.approx((0.6 + 0.8) / 2)
    assert value(MeanOfPairs(consistency.with_first("clip"))) == pytest.approx((0.6 + 0) / 2)
    both = (0.5 * (0.6 + 0.6) + 0.5 * (0.8 + 0.0)) / 2
    assert value(MeanOfPairs(consistency.with_previous_and_first("clip"))) == pytest.approx(both)
    assert value(MeanOfFrames(consistency.with_prompt("clip"))) == pytest.approx((0 + 0.8 + 1) / 3)
    assert value(MeanOfFrames(consistency.with_image("clip"))) == pytest.approx((1 + 0.6 + 0) / 3)
    assert value(OfFirstFrame(consistency.with_image("clip"))) == 1


def test_the_video_score_compares_the_mean_direction():
    total = np.array([1.6, 1.8])
    assert value(VideoTextCosine("clip")) == pytest.approx(total[1] / np.linalg.norm(total))


def test_vbench_clamps_negative_cosines():
    pictures = np.zeros((2, 4, 4, 3), np.uint8)
    running = MeanOfPairs(consistency.with_previous_and_first("dino"))
    for frame in frames_of(pictures, {"dino": [(1, 0), (-1, 0)]}):
        running.add(frame)
    assert running.value() == 0


def test_a_zero_vector_has_no_direction():
    assert consistency.cosine(np.zeros(2, np.float32), np.ones(2, np.float32)) == 0
