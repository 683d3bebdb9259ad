import numpy as np
import pytest

from videocrafter.checkpoints.torchscript_module import TorchScriptError
from videocrafter.evaluation.metrics.action import expected_text_likeness, is_action_right

LABELS = ("surfing", "Riding a Bike", "ironing")
LOGITS = np.log(np.array([0.2, 0.7, 0.1], np.float32))


def test_the_likeliest_action_counts():
    assert is_action_right(LOGITS, LABELS, "riding a bike") == 1
    assert is_action_right(LOGITS, LABELS, "surfing") == 0
    with pytest.raises(TorchScriptError, match="3 logits for 2 labels"):
        is_action_right(LOGITS, LABELS[:2], "surfing")


def test_the_released_code_weighs_texts_by_probability():
    vectors = {"surfing": [1, 0], "Riding a Bike": [0.6, 0.8], "ironing": [0, 1]}

    def of_text(text):
        return {"clip": np.array(vectors[text], np.float32)}

    assert expected_text_likeness(LOGITS, LABELS, "surfing", of_text) == pytest.approx(0.2 + 0.7 * 0.6)
