"""Clips that are rendered, read or computed when they are needed, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from videocrafter.data.sprite_world.world import SceneScript, SpriteWorld

_AT_ONCE = 16


class Clips(Protocol):
    """N clips of one size and length; a tensor [N, T, 3, H, W] in [-1, 1] is one."""

    def __len__(self) -> int:
        """Return N."""

    def __getitem__(self, index: slice, /) -> Tensor:
        """Return some of the clips, [n, T, 3, H, W] in [-1, 1]."""


class RealClips:
    """The real clips of scripts, rendered when they are asked for."""

    def __init__(self, world: SpriteWorld, scripts: Sequence[SceneScript]) -> None:
        self._world, self._scripts = world, list(scripts)

    def __len__(self) -> int:
        return len(self._scripts)

    def __getitem__(self, index: slice, /) -> Tensor:
        return self._world.render(self._scripts[index])


class ChangedClips:
    """Other clips, changed by a function of clips [n, T, 3, H, W], such as an autoencoder's reconstruction."""

    def __init__(self, clips: Clips, change: Callable[[Tensor], Tensor]) -> None:
        self._clips, self._change = clips, change

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: slice, /) -> Tensor:
        return self._change(self._clips[index])


def in_batches(clips: Clips, size: int = _AT_ONCE) -> Iterator[Tensor]:
    """Yield all clips, at most `size` at once."""
    for start in range(0, len(clips), size):
        yield clips[start : start + size]


def to_bytes(frames: Tensor) -> NDArray[np.uint8]:
    """Convert float frames [..., 3, H, W] in [-1, 1] to uint8 [..., H, W, 3]."""
    pixels = ((frames.clamp(-1.0, 1.0) + 1.0) * 127.5).round().movedim(-3, -1)
    return np.asarray(pixels.cpu().numpy(), dtype=np.uint8)
