import numpy as np
import pytest

from tests.unit.evaluation.metrics.frames import frames_of
from videocrafter.evaluation.metrics.drawn_images import find_drawn_images, mean_cosine_with_drawn


def test_pictures_are_found_by_the_number_of_their_prompt(tmp_path):
    (tmp_path / "0001").mkdir()
    names = ("0000-1.png", "0000-0.png", "0001/a.jpg", "0002.png", "9999.png", "0000-0.txt", "other.png")
    for name in names:
        (tmp_path / name).touch()
    found = find_drawn_images(tmp_path, ["a kite", "a boat", "a duck"])
    relative = {prompt: [str(path.relative_to(tmp_path)) for path in paths] for prompt, paths in found.items()}
    assert relative == {"a kite": ["0000-0.png", "0000-1.png"], "a boat": ["0001/a.jpg"], "a duck": ["0002.png"]}
    with pytest.raises(ValueError, match=r"no pictures named by prompt, expected files such as 0000-0\.png"):
        find_drawn_images(tmp_path / "0001", ["a kite"])


def test_the_score_is_the_mean_cosine_over_pictures():
    drawn = {"clip": [np.array([1, 0], np.float32), np.array([0, 1], np.float32)]}
    (frame,) = frames_of(np.zeros((1, 2, 2, 3), np.uint8), {"clip": [(0.6, 0.8)]}, drawn_embeddings=drawn)
    assert mean_cosine_with_drawn("clip")(frame) == pytest.approx(0.7)
