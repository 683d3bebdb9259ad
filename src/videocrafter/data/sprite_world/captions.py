"""What is said of a clip of the sprite world: sentences, synonyms, wrong sentences on purpose, vocabulary."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

from videocrafter.data.sprite_world.motions import MOTIONS, SPEEDS
from videocrafter.data.sprite_world.scenes import PLAIN_SCENES, SCENES

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
# Which of the synonyms a sentence uses: template, motion, speed, place. Each number is taken modulo the
# number of choices there are, so any four numbers will do.
Wording = tuple[int, int, int, int]

# {a}: the subject with its article, {the}: with "the", {moving}: the motion with its speed, {place}:
# the scene with its preposition.
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
# Sentences that go with a given picture: they name no subject.
MOTION_TEMPLATES: tuple[str, ...] = (
    "{moving}",
    "it is {moving}",
    "it starts {moving}",
    "it keeps {moving}",
    "we see it {moving}",
    "a video of it {moving}",
)

_LINEAR = {
    "left": ("left", "to the left", "moving to the left"),
    "right": ("right", "to the right", "moving to the right"),
    "up": ("up", "up", "rising"),
    "down": ("down", "down", "falling"),
    "up_left": ("up and left", "up and to the left", "moving diagonally up and to the left"),
    "up_right": ("up and right", "up and to the right", "moving diagonally up and to the right"),
    "down_left": ("down and left", "down and to the left", "moving diagonally down and to the left"),
    "down_right": ("down and right", "down and to the right", "moving diagonally down and to the right"),
}


def _linear(short: str, long: str, special: str) -> tuple[str, ...]:
    return (f"moving {short}", f"flying {short}", f"going {short}", f"drifting {long}", special)


# Opposite motions have the same synonyms in the same order, so that an opposite sentence differs in one word
# (two on diagonals).
MOTION_PHRASES: dict[str, tuple[str, ...]] = {
    **{motion: _linear(*words) for motion, words in _LINEAR.items()},
    "growing": ("growing", "getting bigger", "getting larger", "becoming bigger"),
    "shrinking": ("shrinking", "getting smaller", "getting tinier", "becoming smaller"),
    "spinning": ("spinning", "rotating", "turning around", "whirling"),
    "bouncing": ("bouncing", "hopping", "jumping"),
    "orbiting": ("orbiting", "circling", "moving in a circle", "flying in circles"),
    "still": ("standing still", "staying still", "not moving", "resting"),
}
SPEED_PHRASES: dict[str, tuple[str, ...]] = {
    "slow": ("{} slowly", "slowly {}", "{} at a slow pace"),
    "medium": ("{}",),
    "fast": ("{} quickly", "quickly {}", "{} fast", "{} rapidly"),
}
SCENE_PHRASES: dict[str, tuple[str, ...]] = {
    "blue sky": ("over a blue sky", "in a blue sky", "in front of a blue sky", "against a blue sky"),
    "sunset": ("in front of a sunset", "against a sunset", "at sunset"),
    "night sky": ("in a night sky", "over a night sky", "against a night sky"),
    "green meadow": ("on a green meadow", "over a green meadow", "in a green meadow"),
    "sandy beach": ("on a sandy beach", "over a sandy beach", "at a sandy beach"),
    "ocean": ("over the ocean", "on the ocean", "in front of the ocean"),
    "snowy field": ("on a snowy field", "over a snowy field", "in a snowy field"),
    "brick wall": ("in front of a brick wall", "against a brick wall", "on a brick wall"),
    "forest": ("in a forest", "in front of a forest", "in the forest"),
    "desert": ("in a desert", "over a desert", "in the desert"),
    "city": ("in a city", "over a city", "in front of a city"),
    "checkered floor": ("on a checkered floor", "over a checkered floor", "above a checkered floor"),
    "pink wall": ("in front of a pink wall", "against a pink wall", "on a pink wall"),
    "outer space": ("in outer space", "through outer space", "somewhere in outer space"),
    **{
        name: (f"on a {name}", f"over a {name}", f"in front of a {name}", f"against a {name}")
        for name in PLAIN_SCENES
    },
}


def with_article(subject: str) -> str:
    """Return the subject after "a" or "an"."""
    return f"{'an' if subject[0] in 'aeiou' else 'a'} {subject}"


PLAIN_WORDING: Wording = (0, 0, 0, 0)
"""The first way to say everything."""


def draw_wording(rng: np.random.Generator) -> Wording:
    """Draw which of the synonyms a sentence uses."""
    template, motion, speed, place = rng.integers(0, 2**16, size=4).tolist()
    return (template, motion, speed, place)


def _moving(motion: str, speed: str, wording: Wording) -> str:
    phrases = MOTION_PHRASES[motion]
    # Nothing stands still quickly or slowly.
    paces = SPEED_PHRASES["medium" if motion == "still" else speed]
    return paces[wording[2] % len(paces)].format(phrases[wording[1] % len(phrases)])


def _place(scene: str, wording: Wording) -> str:
    places = SCENE_PHRASES[scene]
    return places[wording[3] % len(places)]


def worded_caption(subject: str, motion: str, scene: str, speed: str, wording: Wording) -> str:
    """Return the sentence about a clip with the synonyms that `wording` names."""
    return TEMPLATES[wording[0] % len(TEMPLATES)].format(
        a=with_article(subject),
        the=f"the {subject}",
        moving=_moving(motion, speed, wording),
        place=_place(scene, wording),
    )


def worded_image_caption(subject: str, scene: str, wording: Wording) -> str:
    """Return the sentence about a single picture, which says nothing of motion."""
    return IMAGE_TEMPLATES[wording[0] % len(IMAGE_TEMPLATES)].format(
        a=with_article(subject), the=f"the {subject}", place=_place(scene, wording)
    )


def caption(subject: str, motion: str, scene: str, speed: str, rng: np.random.Generator) -> str:
    """Return a sentence about a clip, such as "a rocket flying up over a blue sky"; `rng` draws the words."""
    return worded_caption(subject, motion, scene, speed, draw_wording(rng))


def image_caption(subject: str, scene: str, rng: np.random.Generator) -> str:
    """Return a sentence about a single picture, such as "a cat on a green meadow"."""
    return worded_image_caption(subject, scene, draw_wording(rng))


def motion_caption(motion: str, speed: str, rng: np.random.Generator) -> str:
    """Return a sentence to go with a given picture, which names only the motion: "it is moving left"."""
    wording = draw_wording(rng)
    return MOTION_TEMPLATES[wording[0] % len(MOTION_TEMPLATES)].format(moving=_moving(motion, speed, wording))


@lru_cache(maxsize=1)
def vocabulary() -> tuple[str, ...]:
    """Return every word of every sentence that this world can say, sorted."""
    sentences = [
        *(template.format(a="", the="the", moving="", place="") for template in TEMPLATES + IMAGE_TEMPLATES),
        *(template.format(moving="") for template in MOTION_TEMPLATES),
        *(with_article(subject) for subject in SUBJECTS),
        *(phrase for motion in MOTIONS for phrase in MOTION_PHRASES[motion]),
        *(phrase.format("") for speed in SPEEDS for phrase in SPEED_PHRASES[speed]),
        *(phrase for scene in SCENES + PLAIN_SCENES for phrase in SCENE_PHRASES[scene]),
    ]
    return tuple(sorted({word for sentence in sentences for word in sentence.split()}))
