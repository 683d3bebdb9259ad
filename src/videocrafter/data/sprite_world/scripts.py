"""Scripts of sprite-world clips, held-out combinations, and counterfactual captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256

import numpy as np

from videocrafter.data.sprite_world.captions import (
    SUBJECTS,
    Attribute,
    Wording,
    worded_caption,
    worded_image_caption,
)
from videocrafter.data.sprite_world.motions import MOTIONS, OPPOSITES
from videocrafter.data.sprite_world.scenes import PLAIN_SCENES, SCENES

_HELD_OUT_PERCENT = 10


@cache
def is_held_out(subject: str, motion: str, scene: str) -> bool:
    """Return whether a combination is held out of training (about one in ten).

    A hash of the three names decides, so that no attribute can be predicted from the other two, and adding a subject,
    motion or scene does not change existing combinations.
    """
    digest = sha256(f"{subject}|{motion}|{scene}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100 < _HELD_OUT_PERCENT


def held_out_combinations() -> Iterator[tuple[str, str, str]]:
    """Yield every held-out (subject, motion, scene), in the order of assets/sprites/held_out.txt."""
    for subject in SUBJECTS:
        for motion in MOTIONS:
            for scene in SCENES + PLAIN_SCENES:
                if is_held_out(subject, motion, scene):
                    yield subject, motion, scene


@dataclass(frozen=True, kw_only=True)
class SceneScript:
    """Complete description of one clip, or of an image taken from a clip.

    Attributes:
        subject, motion, scene, speed: names; the speed of "still" is "medium".
        fps: frames per second.
        middle_x, middle_y: centre of the path, in half-widths.
        diameter: diameter of the sprite in widths, half-way through the clip.
        angle: angle of the sprite in the first frame, in radians, clockwise.
        variant: variant of the scene, from 0.
        wording: choices of synonyms for the caption.
        caption: the caption.
        image_frame: index of the frame that an image shows, possibly fractional; None for a clip.
    """

    subject: str
    motion: str
    scene: str
    speed: str
    fps: float
    middle_x: float
    middle_y: float
    diameter: float
    angle: float
    variant: int
    wording: Wording
    caption: str
    image_frame: float | None = None


def counterfactual_caption(
    script: SceneScript,
    attribute: Attribute,
    rng: np.random.Generator,
    *,
    subjects: Sequence[str],
    motions: Sequence[str],
    scenes: Sequence[str],
) -> str | None:
    """Return the script's caption with one attribute replaced and every other word the same.

    A model that has learned an attribute has a higher loss with such a caption. The difference measures how well it
    learned the attribute.

    Args:
        script: a clip, or an image (for "subject" and "scene" only).
        attribute: what to replace. "subject", "motion" and "scene" use another name from the lists; "opposite" uses
            the opposite motion.
        rng: draws the other name.
        subjects, motions, scenes: names to draw from.

    Returns:
        The wrong caption, or None if there is none: the motion has no opposite, the list has no other name, or the
        caption is that of an image and does not mention motion.

    Raises:
        ValueError: unknown attribute.
    """
    subject, motion, scene = script.subject, script.motion, script.scene
    is_image = script.image_frame is not None
    if attribute == "opposite":
        choices = [OPPOSITES[motion]] if motion in OPPOSITES else []
    elif attribute == "motion":
        # "still" has no speed, so it cannot replace a motion whose caption mentions one.
        has_speed = script.speed != "medium"
        choices = [name for name in motions if name != motion and not (has_speed and name == "still")]
    elif attribute == "subject":
        choices = [name for name in subjects if name != subject]
    elif attribute == "scene":
        choices = [name for name in scenes if name != scene]
    else:
        raise ValueError(f"unknown attribute {attribute!r}, expected subject, motion, opposite or scene")
    if not choices or (is_image and attribute in ("motion", "opposite")):
        return None
    choice = choices[int(rng.integers(len(choices)))]
    if attribute in ("motion", "opposite"):
        motion = choice
    elif attribute == "subject":
        subject = choice
    else:
        scene = choice
    if is_image:
        return worded_image_caption(subject, scene, script.wording)
    return worded_caption(subject, motion, scene, script.speed, script.wording)
