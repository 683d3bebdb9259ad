"""A selection of stills in which every subject occurs equally often."""

from __future__ import annotations

from itertools import count as count_up

from videocrafter.data.sprite_world.world import SceneScript, SpriteWorld


def balanced_stills(world: SpriteWorld, count: int) -> list[SceneScript]:
    """Return image scripts of a world in its order, round by round: each round shows every subject once.

    Raises:
        ValueError: count < 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}, expected 1 or more")
    waiting: set[str] = set()
    chosen: list[SceneScript] = []
    for index in count_up():
        waiting = waiting or set(world.shown_subjects)
        script = world.image_script(index)
        if script.subject in waiting:
            waiting.remove(script.subject)
            chosen.append(script)
        if len(chosen) == count:
            break
    return chosen
