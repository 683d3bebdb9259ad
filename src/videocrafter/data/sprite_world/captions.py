"""Captions of the sprite world: subjects, sentence templates, synonyms, vocabulary.

To add a subject, add its name to `SUBJECTS` and its picture to `assets/sprites/`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

from videocrafter.data.sprite_world.motions import MOTION_TABLE, SPEEDS
from videocrafter.data.sprite_world.scenes import SCENE_TABLE

SUBJECTS: tuple[str, ...] = (
    "rocket",
    "cat",
    "apple",
    "frog",
    "penguin",
    "banana",
    "airplane",
    "eggplant",
    "panda",
    "pumpkin",
    "octopus",
    "robot",
    "car",
    "star",
    "pig",
    "butterfly",
    "mushroom",
    "cactus",
    "ghost",
    "umbrella",
    "rainbow",
    "carrot",
    "ladybug",
    "watermelon",
)

Attribute = Literal["subject", "motion", "opposite", "scene"]
Wording = tuple[int, int, int, int]
"""Choices of synonyms for a sentence: template, motion, speed, place. Each is taken modulo the number of choices."""

# {a}: the subject with "a" or "an"; {the}: with "the"; {moving}: the motion with its speed; {place}: the scene with
# its preposition.
TEMPLATES: tuple[str, ...] = (
    "{a} {moving} {place}",
    "{a} is {moving} {place}",
    "{the} is {moving} {place}",
    "{a} that is {moving} {place}",
    "{place} {a} is {moving}",
    "{place} there is {a} {moving}",
    "there is {a} {moving} {place}",
    "we see {a} {moving} {place}",
    "look at {the} {moving} {place}",
    "watch {a} {moving} {place}",
    "a video of {a} {moving} {place}",
    "a clip of {a} that is {moving} {place}",
    "an animation of {a} {moving} {place}",
    "{a} {place} is {moving}",
)
IMAGE_TEMPLATES: tuple[str, ...] = (
    "{a} {place}",
    "{the} {place}",
    "{a} is {place}",
    "there is {a} {place}",
    "{place} there is {a}",
    "we see {a} {place}",
    "look at {the} {place}",
    "a picture of {a} {place}",
    "an image of {a} {place}",
)
# Sentences that accompany an image, so they do not name the subject.
MOTION_TEMPLATES: tuple[str, ...] = (
    "{moving}",
    "it is {moving}",
    "it starts {moving}",
    "it keeps {moving}",
    "we see it {moving}",
    "a video of it {moving}",
)

MOTION_PHRASES: dict[str, tuple[str, ...]] = {name: motion.phrases for name, motion in MOTION_TABLE.items()}
SPEED_PHRASES: dict[str, tuple[str, ...]] = {
    "slow": ("{} slowly", "slowly {}", "{} at a slow pace"),
    "medium": ("{}",),
    "fast": ("{} quickly", "quickly {}", "{} fast", "{} rapidly"),
}
SCENE_PHRASES: dict[str, tuple[str, ...]] = {name: scene.phrases for name, scene in SCENE_TABLE.items()}


PLAIN_WORDING: Wording = (0, 0, 0, 0)
"""The first synonym of everything."""


def with_article(subject: str) -> str:
    """Return the subject with "a" or "an"."""
    return f"{'an' if subject[0] in 'aeiou' else 'a'} {subject}"


def draw_wording(rng: np.random.Generator) -> Wording:
    """Draw the synonyms of a sentence."""
    template, motion, speed, place = rng.integers(0, 2**16, size=4).tolist()
    return (template, motion, speed, place)


def _moving(motion: str, speed: str, wording: Wording) -> str:
    phrases = MOTION_PHRASES[motion]
    # Standing still has no speed.
    patterns = SPEED_PHRASES["medium" if motion == "still" else speed]
    return patterns[wording[2] % len(patterns)].format(phrases[wording[1] % len(phrases)])


def _place(scene: str, wording: Wording) -> str:
    places = SCENE_PHRASES[scene]
    return places[wording[3] % len(places)]


def worded_caption(subject: str, motion: str, scene: str, speed: str, wording: Wording) -> str:
    """Return a caption such as "a rocket flying up over a blue sky", with the synonyms that `wording` selects."""
    return TEMPLATES[wording[0] % len(TEMPLATES)].format(
        a=with_article(subject),
        the=f"the {subject}",
        moving=_moving(motion, speed, wording),
        place=_place(scene, wording),
    )


def worded_image_caption(subject: str, scene: str, wording: Wording) -> str:
    """Return an image's caption, such as "a cat on a green meadow". It does not mention motion."""
    return IMAGE_TEMPLATES[wording[0] % len(IMAGE_TEMPLATES)].format(
        a=with_article(subject), the=f"the {subject}", place=_place(scene, wording)
    )


def motion_caption(motion: str, speed: str, rng: np.random.Generator) -> str:
    """Return a caption that names only the motion, such as "it is moving left". `rng` draws the words."""
    wording = draw_wording(rng)
    return MOTION_TEMPLATES[wording[0] % len(MOTION_TEMPLATES)].format(moving=_moving(motion, speed, wording))


@lru_cache(maxsize=1)
def vocabulary() -> tuple[str, ...]:
    """Return every word of every possible caption, sorted."""
    sentences = [
        *(template.format(a="", the="the", moving="", place="") for template in TEMPLATES + IMAGE_TEMPLATES),
        *(template.format(moving="") for template in MOTION_TEMPLATES),
        *(with_article(subject) for subject in SUBJECTS),
        *(phrase for phrases in MOTION_PHRASES.values() for phrase in phrases),
        *(phrase.format("") for speed in SPEEDS for phrase in SPEED_PHRASES[speed]),
        *(phrase for phrases in SCENE_PHRASES.values() for phrase in phrases),
    ]
    return tuple(sorted({word for sentence in sentences for word in sentence.split()}))
