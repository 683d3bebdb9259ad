"""Captions are grammatical, name what they should, and stay within the vocabulary."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from videocrafter.data.sprite_world.captions import (
    IMAGE_TEMPLATES,
    MOTION_PHRASES,
    SCENE_PHRASES,
    SPEED_PHRASES,
    SUBJECTS,
    TEMPLATES,
    draw_wording,
    motion_caption,
    vocabulary,
    worded_caption,
    worded_image_caption,
)
from videocrafter.data.sprite_world.motions import MOTIONS, OPPOSITES, SPEEDS
from videocrafter.data.sprite_world.scenes import PLAIN_SCENES, SCENES

DIRECTION_WORDS = {"left", "right", "up", "down"}


def all_captions(subject: str, motion: str, scene: str, speed: str) -> set[str]:
    sizes = (
        len(TEMPLATES),
        len(MOTION_PHRASES[motion]),
        len(SPEED_PHRASES[speed]),
        len(SCENE_PHRASES[scene]),
    )
    return {
        worded_caption(subject, motion, scene, speed, wording)  # type: ignore[arg-type]
        for wording in itertools.product(*map(range, sizes))
    }


def test_the_readme_examples_are_captions() -> None:
    assert "a rocket flying up over a blue sky" in all_captions("rocket", "up", "blue sky", "medium")
    assert "a cat bouncing on a green meadow" in all_captions("cat", "bouncing", "green meadow", "medium")


def test_every_caption_is_in_the_vocabulary() -> None:
    words = set(vocabulary())
    used = set()
    rng = np.random.default_rng(0)
    for subject, scene, motion in zip(
        itertools.islice(itertools.cycle(SUBJECTS), 500),
        itertools.cycle(SCENES + PLAIN_SCENES),
        itertools.cycle(MOTIONS),
        strict=False,
    ):
        for speed in SPEEDS:
            for text in (
                worded_caption(subject, motion, scene, speed, draw_wording(rng)),
                worded_image_caption(subject, scene, draw_wording(rng)),
                motion_caption(motion, speed, rng),
            ):
                used.update(text.split())
    assert used == words
    assert len(words) < 200
    assert all(re.fullmatch("[a-z]+", word) for word in words)


def test_no_word_has_two_meanings() -> None:
    """A word used for one attribute must not occur in the names of another, or in a template."""
    motion_words = {word for phrases in MOTION_PHRASES.values() for text in phrases for word in text.split()}
    scene_words = {word for phrases in SCENE_PHRASES.values() for text in phrases for word in text.split()}
    template_words = {word for text in TEMPLATES + IMAGE_TEMPLATES for word in text.split()}
    small_words = {"a", "in", "and", "to", "the", "not"}
    assert not (motion_words & scene_words) - small_words
    assert not set(SUBJECTS) & (motion_words | scene_words | template_words)
    assert not template_words & DIRECTION_WORDS
    for motion, phrases in MOTION_PHRASES.items():
        expected = set(motion.split("_")) & DIRECTION_WORDS
        for phrase in phrases:
            used = set(phrase.split()) & DIRECTION_WORDS
            assert used == expected or phrase in ("rising", "falling"), phrase


def test_phrases_name_one_motion_and_scene() -> None:
    for table in (MOTION_PHRASES, SCENE_PHRASES):
        phrases = [phrase for options in table.values() for phrase in options]
        assert len(phrases) == len(set(phrases))


@pytest.mark.parametrize("motion", sorted(OPPOSITES))
def test_captions_of_opposites_differ_in_one_or_two_words(motion: str) -> None:
    for ours, theirs in zip(MOTION_PHRASES[motion], MOTION_PHRASES[OPPOSITES[motion]], strict=True):
        differing = [a != b for a, b in zip(ours.split(), theirs.split(), strict=True)]
        assert sum(differing) == (2 if "_" in motion else 1)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_articles(subject: str) -> None:
    for text in all_captions(subject, "still", "ocean", "medium"):
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  |^ | $", text), text
        assert subject in text.split()


def test_standing_still_has_no_speed() -> None:
    paces = {"slowly", "slow", "quickly", "fast", "rapidly"}
    for speed in SPEEDS:
        for text in all_captions("cat", "still", "city", speed):
            assert not paces & set(text.split())
    assert all(paces & set(text.split()) for text in all_captions("cat", "left", "city", "fast"))


def test_motion_captions_name_no_subject_and_no_scene() -> None:
    rng = np.random.default_rng(0)
    scene_words = {word for scene in SCENES for word in scene.split()}
    for motion, speed in itertools.product(MOTIONS, SPEEDS):
        for _ in range(30):
            assert not (set(SUBJECTS) | scene_words) & set(motion_caption(motion, speed, rng).split())


def test_images_have_no_motion_words() -> None:
    rng = np.random.default_rng(0)
    texts = {worded_image_caption("cat", "green meadow", draw_wording(rng)) for _ in range(300)}
    assert "a cat on a green meadow" in texts
    assert len(texts) > 15
    assert not any(word.endswith("ing") for text in texts for word in text.split())
