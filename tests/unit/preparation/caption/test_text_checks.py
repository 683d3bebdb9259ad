"""Captions of models are tidied, and unusable ones are named."""

import pytest

from videocrafter.preparation.caption.text_checks import boilerplate, count_tokens, problems, tidy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"The video shows a cat\n on a roof."', "A cat on a roof."),
        ("In this video, we see a dog.", "A dog."),
        ("Sure! This short clip depicts two boats", "Two boats"),
        ("A cat shows its paws", "A cat shows its paws"),
        ("There are three birds", "Three birds"),
    ],
)
def test_openings_are_removed(text, expected):
    assert tidy(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  ", ["empty"]),
        ("a cat on a roof", []),
        ("two words", ["short"]),
        ("see https://example.com for a cat", ["address"]),
        ("I'm sorry, I cannot help with that", ["refusal"]),
        ("a red car, a red car, a red car, a red car, a red car,", ["repeated"]),
        ("word " * 3 + " ".join(f"w{letter}" for letter in "abcdefghijklmnopqrstuvwxyz" * 3), ["long"]),
    ],
)
def test_problems_are_named(text, expected):
    assert problems(text) == expected


def test_common_captions_of_many_clips_are_boilerplate():
    captions = ["stock footage"] * 6 + [f"caption number {number}" for number in range(100)]
    assert boilerplate(captions) == {"stock footage": 6}


def test_the_estimate_of_tokens_is_close_to_the_tokenizer():
    from videocrafter.models.clip_tokenizer import clip_tokenizer

    tokenizer = clip_tokenizer()
    for text in (
        "a rocket flying up over a green meadow, slowly",
        "An elderly photographer photographs extraordinarily colourful hummingbirds near 12 waterfalls.",
    ):
        exact = len(tokenizer(text)["input_ids"]) - 2
        assert abs(count_tokens(text) - exact) <= 0.25 * exact
