"""Input images for the scripts in this folder: frames of the sprite world."""

from dataclasses import replace
from typing import Any

import numpy as np

from videocrafter.data.sprite_world.world import MINIATURE_WORLD, SpriteWorld


def world_picture(subject: str, scene: str, *, side: int, **script: Any) -> np.ndarray:
    """Render a subject in a scene.

    Args:
        side: height and width in pixels.
        script: other fields of the picture's `SceneScript`, such as `middle_x` and `angle`.

    Returns:
        [side, side, 3], in [0, 1].
    """
    world = SpriteWorld(replace(MINIATURE_WORLD, num_frames=1, height=side, width=side, split="all"))
    centred = {"motion": "still", "middle_x": 0.0, "middle_y": 0.0}
    picture = replace(world.script(0), subject=subject, scene=scene, **{**centred, **script})
    return (world.render([picture], 1)[0, 0].permute(1, 2, 0).numpy() + 1) / 2
