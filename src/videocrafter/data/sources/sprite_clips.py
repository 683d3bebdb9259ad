"""The sprite world as a data source: videos are rendered instead of decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from videocrafter.data.clip import DecodingLimits, Kind, LazyVideo
from videocrafter.data.source import ClipShard, SourceConfig, check_kind
from videocrafter.data.sprite_world.world import MINIATURE_WORLD, Split, SpriteWorld, SpriteWorldConfig
from videocrafter.media.framing import Framer, frame_image


@dataclass(frozen=True, kw_only=True)
class SpriteClipsConfig(SourceConfig):
    """Clips or images of the sprite world, with sprites and frame rates as the miniature was trained on.

    Attributes:
        kind: clips or images.
        num_clips: number of clips per epoch.
        height, width, num_frames, split, seed: as in `SpriteWorldConfig`.
    """

    kind: Kind = "video"
    num_clips: int = 10_000
    height: int = MINIATURE_WORLD.height
    width: int = MINIATURE_WORLD.width
    num_frames: int = MINIATURE_WORLD.num_frames
    split: Split = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kind(self.kind)
        if self.num_clips < 1:
            raise ValueError(f"num_clips is {self.num_clips}, expected 1 or more")
        self.world()

    def world(self) -> SpriteWorldConfig:
        """Return the configuration of the world."""
        return replace(
            MINIATURE_WORLD,
            height=self.height,
            width=self.width,
            num_frames=self.num_frames,
            split=self.split,
            seed=self.seed,
        )

    def open(self) -> SpriteClips:
        """Open the world."""
        return SpriteClips(self)


class SpriteClips:
    """An open sprite world."""

    shards_together = 1

    def __init__(self, config: SpriteClipsConfig) -> None:
        self.label, self.kind = f"sprites:{config.seed}/{config.kind}", config.kind
        self.num_shards, self._world = config.num_clips, config.world()

    def read_shard(self, index: int) -> ClipShard:
        """Return a shard that contains clip `index` only."""
        return ClipShard(clips=(SpriteClip(world=self._world, kind=self.kind, index=index),))


@dataclass(frozen=True, kw_only=True)
class SpriteClip:
    """Clip or image number `index` of a world."""

    world: SpriteWorldConfig
    kind: Kind
    index: int

    @property
    def key(self) -> str:
        return str(self.index)

    @contextmanager
    def open(self, limits: DecodingLimits) -> Iterator[LazyVideo]:
        """Create the script. Frames are rendered on request."""
        yield _SpriteVideo(_world(self.world), self.kind, self.index)


class _SpriteVideo:
    def __init__(self, world: SpriteWorld, kind: Kind, index: int) -> None:
        self._world = world
        self._script = world.image_script(index) if kind == "image" else world.script(index)
        self.caption, self.fps = self._script.caption, self._script.fps
        self.num_frames = 1 if kind == "image" else world.config.num_frames

    def frames_at(self, times_s: Sequence[float], framer: Framer | None = None) -> np.ndarray:
        pixels = ((self._world.render([self._script])[0] + 1) * 127.5).round().byte()
        frames = pixels.permute(0, 2, 3, 1).contiguous().numpy()
        chosen = frames[[min(int(time_s * self.fps), len(frames) - 1) for time_s in times_s]]
        if framer is None:
            return chosen
        framing = framer(self._world.config.height, self._world.config.width)
        return np.stack([frame_image(frame, framing) for frame in chosen])


@lru_cache(maxsize=4)
def _world(config: SpriteWorldConfig) -> SpriteWorld:
    return SpriteWorld(config)
