import math

import pytest

from videocrafter.evaluation.metrics.bleu import bleu, highest_bleu, mean_bleu


def test_bleu_follows_its_definition():
    assert bleu("A red kite flies over the sea.", "a red kite flies over the sea") == pytest.approx(1)
    # Papineni et al., example 2: clipped unigram precision 2/7.
    assert bleu("the the the the the the the", "the cat is on the mat", order=1) == pytest.approx(2 / 7)
    # Unigrams 3/3, bigrams 2/2, brevity exp(1 - 6/3).
    assert bleu("a red kite", "a red kite over the sea", order=2) == pytest.approx(math.exp(-1))
    assert bleu("a boat", "the sea") == bleu("", "the sea") == 0


def test_the_released_code_takes_the_largest_value():
    captions = ["a red kite", "the sea"]
    prompt = "a red kite over the sea"
    assert mean_bleu(captions, prompt) == pytest.approx(0)  # no common 4-gram
    assert highest_bleu(captions, prompt) == pytest.approx(math.exp(-1))
