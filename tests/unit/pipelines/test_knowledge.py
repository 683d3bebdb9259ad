import pytest

from videocrafter.pipelines.knowledge import Knowledge, prompt_notes

WORLD = Knowledge(
    subjects=("rocket", "red car", "soccer ball", "cat", "pumpkin", "ladybug", "butterfly"),
    motions=("left", "right"),
    scenes=("blue sky", "night sky", "brick wall", "pink wall", "forest"),
)
VOCABULARY = {"a", "an", "over", "in", "the", "two", "flying", "white"} | {
    part for name in (*WORLD.subjects, *WORLD.scenes) for part in name.split()
}


def notes(prompt: str, **options: bool) -> list[str]:
    words = dict.fromkeys(word.strip("!,.") for word in prompt.lower().replace("-", " ").split())
    unknown = [word for word in words if word and word not in VOCABULARY]
    return prompt_notes(prompt, WORLD, unknown, VOCABULARY, **options)


@pytest.mark.parametrize(
    "prompt", ["a rocket flying", "A CAT!", "the red-car", "RED  CAR over the blue sky", "a soccer ball, flying"]
)
def test_known_subjects_need_no_note(prompt):
    assert notes(prompt) == []


@pytest.mark.parametrize("prompt", ["", "   ", "\n"])
def test_empty_prompt_gets_a_note_unless_an_image_shows_the_content(prompt):
    (note,) = notes(prompt)
    assert "empty" in note
    assert notes(prompt, needs_subject=False) == []


@pytest.mark.parametrize(
    ("prompt", "word", "known"),
    [
        ("rockets flying", "'rockets'", "'rocket'"),
        ("two cats", "'cats'", "'cat'"),
        ("a kitty in the forest", "'kitty'", "'cat'"),
        ("a lady bug in the forest", "'lady bug'", "'ladybug'"),
        ("the rokcet", "'rokcet'", "'rocket'"),
        ("a pümpkin", "'pümpkin'", "'pumpkin'"),
        ("a cat in a forrest", "'forrest'", "'forest'"),
        ("a cat flies", "'flies'", "'flying'"),
        ("a cat in a violet wall", "'violet'", "'brick wall' or 'pink wall'"),
    ],
)
def test_a_word_that_stands_for_a_known_one_names_it(prompt, word, known):
    assert notes(prompt) == [f"the model does not know {word} (did you mean {known}?) and ignores it"]


@pytest.mark.parametrize(
    "prompt", ["a hare", "a catapult", "a dog", "a bat", "a coat", "quantum chromodynamics", "一只猫"]
)
def test_an_unknown_subject_lists_known_ones_without_a_guess(prompt):
    unknown, subject = notes(prompt)
    assert "did you mean" not in unknown
    assert "it knows rocket, red car, soccer ball, cat, pumpkin, ladybug and 1 more" in subject
    assert len(notes(prompt, needs_subject=False)) == 1


def test_many_unknown_words_are_counted():
    words = " ".join(f"unheard{number}" for number in "abcdefgh")
    note, _ = notes(words)
    assert "'unheardf' and 2 other words and ignores them" in note


def test_model_of_the_open_world_gets_no_notes():
    assert prompt_notes("anything at all", Knowledge(), ["anything"], {"all"}) == []


def test_survives_its_configuration():
    assert Knowledge.from_config(WORLD.to_config()) == WORLD
    assert Knowledge.from_config(None) == Knowledge()
