import pytest

from videocrafter.pipelines.knowledge import Knowledge, close_subjects, prompt_notes

WORLD = Knowledge(
    subjects=("rocket", "red car", "soccer ball", "cat", "fox", "glass", "butterfly"),
    motions=("left", "right"),
    scenes=("blue sky", "night city"),
)


@pytest.mark.parametrize(
    "prompt", ["a rocket flying up", "Two CATS!", "the red-car turns", "glasses", "a soccer ball, slowly"]
)
def test_known_subjects_need_no_note(prompt):
    assert prompt_notes(prompt, WORLD) == []


@pytest.mark.parametrize("prompt", ["", "   ", "\n"])
def test_empty_prompt_gets_a_note(prompt):
    (note,) = prompt_notes(prompt, WORLD)
    assert "empty" in note


def test_misspelt_subject_names_the_close_one_first():
    (note,) = prompt_notes("a rockett over the blue sky", WORLD)
    assert "rocket" in note.split("the closest: ")[1].split(", ")[0]


def test_part_of_a_name_is_close_to_it():
    assert "red car" in close_subjects("a sports car", WORLD)


def test_a_name_inside_another_word_is_not_that_subject():
    (note,) = prompt_notes("a catapult", WORLD)
    assert "not trained on any subject" in note


def test_words_of_scenes_are_not_taken_for_subjects():
    assert close_subjects("the night sky", Knowledge(subjects=("knight",), scenes=("night sky",))) == []


def test_nothing_close_lists_what_is_known():
    (note,) = prompt_notes("quantum chromodynamics", WORLD)
    assert "it knows rocket, red car" in note
    assert "…" in note


def test_model_of_the_open_world_gets_no_notes():
    assert prompt_notes("anything at all", Knowledge()) == []


def test_survives_its_configuration():
    assert Knowledge.from_config(WORLD.to_config()) == WORLD
    assert Knowledge.from_config(None) == Knowledge()
