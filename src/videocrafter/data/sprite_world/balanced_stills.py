"""A selection of stills in which every subject occurs equally often."""

from __future__ import annotations

import math
from collections import Counter
from itertools import count as count_up

from videocrafter.data.sprite_world.world import SceneScript, SpriteWorld


def balanced_stills(world: SpriteWorld, count: int) -> list[SceneScript]:
    """Return the world's first `count` image scripts that show none of its subjects more often than the others.

    Raises:
        ValueError: count < 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}, expected 1 or more")
    most = math.ceil(count / len(world.shown_subjects))
    used: Counter[str] = Counter()
    chosen: list[SceneScript] = []
    for index in count_up():
        script = world.image_script(index)
        if used[script.subject] < most:
            used[script.subject] += 1
            chosen.append(script)
        if len(chosen) == count:
            break
    return chosen
