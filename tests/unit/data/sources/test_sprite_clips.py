"""Clips of the sprite-world source equal those of the world."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from videocrafter.data.clip import DecodingLimits
from videocrafter.data.sources.sprite_clips import SpriteClipsConfig
from videocrafter.data.sprite_world.world import SpriteWorld
from videocrafter.media.framing import Framing

CONFIG = SpriteClipsConfig(height=32, width=32, num_frames=4, num_clips=5, seed=3)


def test_clips_are_those_of_the_world() -> None:
    source, world = CONFIG.open(), SpriteWorld(CONFIG.world())
    assert (source.kind, source.num_shards) == ("video", 5)
    (clip,) = source.read_shard(2).clips
    with pickle.loads(pickle.dumps(clip)).open(DecodingLimits()) as video:
        script = world.script(2)
        assert (video.caption, video.fps, video.num_frames) == (script.caption, script.fps, 4)
        times = [(frame + 0.5) / video.fps for frame in range(4)]
        frames = video.frames_at(times)
        small = video.frames_at(times[1:2], lambda height, width: Framing(height=16, width=16))
    expected = world.render([script])[0].permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(frames / 127.5 - 1, expected, atol=1 / 127)
    assert small.shape == (1, 16, 16, 3)


def test_images_are_those_of_the_world() -> None:
    source = SpriteClipsConfig(kind="image", height=32, width=32, num_clips=5, seed=3).open()
    (clip,) = source.read_shard(4).clips
    with clip.open(DecodingLimits()) as image:
        assert image.caption == SpriteWorld(source._world).image_script(4).caption
        assert image.num_frames == 1
        assert image.frames_at([0.1]).shape == (1, 32, 32, 3)


def test_invalid_configs_are_refused() -> None:
    with pytest.raises(ValueError, match="num_clips is 0"):
        SpriteClipsConfig(num_clips=0)
    with pytest.raises(ValueError, match="split is 'test'"):
        SpriteClipsConfig(split="test")  # type: ignore[arg-type]
