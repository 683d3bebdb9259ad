from collections import Counter

import pytest

from videocrafter.data.sprite_world.balanced_stills import balanced_stills
from videocrafter.data.sprite_world.world import SUBJECTS, SpriteWorld, SpriteWorldConfig, is_held_out


def test_every_subject_occurs_equally_often_in_held_out_combinations() -> None:
    world = SpriteWorld(SpriteWorldConfig(height=16, width=16, split="held_out", seed=5))
    chosen = balanced_stills(world, 60)
    counts = Counter(script.subject for script in chosen)
    assert set(counts) == set(SUBJECTS)
    assert set(counts.values()) == {2, 3}
    assert all(is_held_out(one.subject, one.motion, one.scene) for one in chosen)
    assert all(one.image_frame is not None for one in chosen)
    assert Counter(script.subject for script in balanced_stills(world, 48)) == dict.fromkeys(SUBJECTS, 2)
    assert chosen == balanced_stills(world, 60)


def test_none_are_refused() -> None:
    with pytest.raises(ValueError, match="count is 0"):
        balanced_stills(SpriteWorld(SpriteWorldConfig(height=16, width=16)), 0)
