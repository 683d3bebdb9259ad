import pytest

from videocrafter.pipelines.spelling import edit_distance, find_known

NAMES = {"car", "cat", "pig", "frog", "star", "pumpkin", "carrot", "desert", "watermelon", "forest", "space"}
VOCABULARY = NAMES | {"white", "growing", "spinning", "moving", "quickly", "to"}


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("forg", "frog"),
        ("catt", "cat"),
        ("dessert", "desert"),
        ("waterlemon", "watermelon"),
        ("qiuckly", "quickly"),
        ("carrots", "carrot"),
        ("spins", "spinning"),
        ("moves", "moving"),
        ("toads", "frog"),
    ],
)
def test_misspellings_and_other_forms_are_found(word, known):
    assert find_known(word, VOCABULARY, NAMES) == known


@pytest.mark.parametrize(
    "word", ["hare", "coat", "act", "fog", "parrot", "while", "too", "cartoon", "boar", "tv", ""]
)
def test_other_words_are_not_taken_for_known_ones(word):
    assert find_known(word, VOCABULARY, NAMES) is None


def test_a_synonym_is_offered_only_if_the_model_knows_it():
    assert find_known("sea", VOCABULARY, NAMES) is None
    assert find_known("sea", VOCABULARY | {"ocean"}, NAMES) == "ocean"


def test_edit_distance():
    assert [edit_distance(*pair) for pair in (("", "ab"), ("ab", "ba"), ("kitten", "sitting"), ("abc", "abc"))] == [
        2,
        1,
        3,
        0,
    ]
