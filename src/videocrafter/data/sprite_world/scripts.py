"""What happens in one clip of the sprite world, which combinations are held out, and captions made wrong."""

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
    """Whether training never sees this combination (about one in ten).

    Decided by a hash of the three names, so that no attribute can be told from the other two, and so that a
    new subject, motion or scene leaves the others' combinations as they are.
    """
    digest = sha256(f"{subject}|{motion}|{scene}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100 < _HELD_OUT_PERCENT


def held_out_combinations() -> Iterator[tuple[str, str, str]]:
    """Yield every (subject, motion, scene) that is held out, as listed in assets/sprites/held_out.txt."""
    for subject in SUBJECTS:
        for motion in MOTIONS:
            for scene in SCENES + PLAIN_SCENES:
                if is_held_out(subject, motion, scene):
                    yield subject, motion, scene


@dataclass(frozen=True, kw_only=True)
class SceneScript:
    """Everything there is to know of one clip, or of one image out of a clip.

    Attributes:
        subject, motion, scene, speed: names; "still" has the speed "medium".
        fps: frames per second.
        middle_x, middle_y: the point about which the path is centred, in half-widths.
        diameter: the sprite's diameter in widths, half-way through the clip.
        angle: the sprite's angle at the first frame, in radians, clockwise.
        variant: which version of the scene.
        wording: which of the synonyms the caption uses.
        caption: what is said of it.
        image_frame: for an image, the frame of its clip that it shows (may lie between two); None for a clip.
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


def counterfactual(
    script: SceneScript,
    attribute: Attribute,
    rng: np.random.Generator,
    *,
    subjects: Sequence[str] = SUBJECTS,
    motions: Sequence[str] = MOTIONS,
    scenes: Sequence[str] = SCENES,
) -> str | None:
    """Return the script's caption with one attribute wrong and every other word the same.

    A model that has learned an attribute predicts worse from such a caption; by how much is the gauge of its
    training.

    Args:
        script: a clip, or an image (for "subject" and "scene").
        attribute: "subject", "motion" and "scene" put in another name from the lists; "opposite" puts in the
            opposite direction or change of size.
        rng: draws the other name.

    Returns:
        The wrong caption, or None if there is none: the motion has no opposite, the list has no other name,
        or an image's caption says nothing of motion.
    """
    subject, motion, scene = script.subject, script.motion, script.scene
    is_image = script.image_frame is not None
    if attribute == "opposite":
        choices = [OPPOSITES[motion]] if motion in OPPOSITES else []
    elif attribute == "motion":
        # Standing still has no pace, so it cannot take the place of a motion that has one.
        paced = script.speed != "medium"
        choices = [name for name in motions if name != motion and not (paced and name == "still")]
    elif attribute == "subject":
        choices = [name for name in subjects if name != subject]
    elif attribute == "scene":
        choices = [name for name in scenes if name != scene]
    else:
        raise ValueError(f"unknown attribute {attribute!r}; allowed are subject, motion, opposite and scene")
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
