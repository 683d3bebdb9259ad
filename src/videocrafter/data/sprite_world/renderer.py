"""Batched rendering of antialiased sprites over scenes.

Shapes: N frames, S side of a sprite image in pixels, H and W size of a frame.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from importlib.resources import files

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from videocrafter.data.sprite_world.scenes import NUM_VARIANTS, draw_scene

# Side of a sprite image per diameter of the sprite: the margin around it.
SIDE_PER_DIAMETER = 1.08
# Ratio between the sides of successive pyramid levels. A sprite is sampled from the smallest level that is at least
# as large as the sprite in the frame, so that bilinear sampling never skips pixels.
_LEVEL_RATIO = 2**-0.25
_SMALLEST_SIDE = 4


@functools.cache
def load_sprite(subject: str) -> Tensor:
    """Return a packaged sprite as premultiplied RGBA [4, S, S] in [0, 1]. The tensor is cached; do not modify it.

    Raises:
        ValueError: unknown subject.
    """
    folder = files("videocrafter") / "assets" / "sprites"
    path = folder / f"{subject}.png"
    if not path.is_file():
        known = sorted(entry.name[:-4] for entry in folder.iterdir() if entry.name.endswith(".png"))
        raise ValueError(f"unknown subject {subject!r}, expected one of {', '.join(known)}")
    with path.open("rb") as stream, Image.open(stream) as image:
        pixels = np.asarray(image.convert("RGBA"), dtype=np.float32) / 255.0
    pixels[..., :3] *= pixels[..., 3:]
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def blob_of(sprite: Tensor) -> Tensor:
    """Return a disc of a sprite's mean colour and area, premultiplied RGBA like the sprite [4, S, S].

    Whoever recognises the subject in it looks at colour alone.
    """
    side = sprite.shape[-1]
    colour = sprite[:3].sum(dim=(1, 2)) / sprite[3].sum()
    radius = float(sprite[3].sum() / torch.pi) ** 0.5
    middles = torch.arange(side) + 0.5 - side / 2
    distance = (middles[:, None].square() + middles.square()).sqrt()
    alpha = (radius + 0.5 - distance).clamp(0.0, 1.0)
    return torch.cat((colour.view(3, 1, 1) * alpha, alpha[None]))


class SpriteRenderer:
    """Renders frames of one size. Sprites are scaled and scenes drawn once, on first use.

    Args:
        picture: returns the picture of a subject, as `load_sprite` does.
    """

    def __init__(
        self,
        *,
        height: int,
        width: int,
        subjects: Sequence[str],
        scenes: Sequence[str],
        picture: Callable[[str], Tensor] = load_sprite,
    ) -> None:
        self.height, self.width = height, width
        self._subjects = tuple(subjects)
        self._scenes = tuple(scenes)
        self._sprites = torch.stack([picture(name) for name in self._subjects])
        side = self._sprites.shape[-1]
        num_levels = int(np.log(_SMALLEST_SIDE / side) / np.log(_LEVEL_RATIO)) + 1
        self._sides = np.unique([round(side * _LEVEL_RATIO**level) for level in range(num_levels)])
        self._levels: dict[int, Tensor] = {}
        self._backgrounds: dict[int, Tensor] = {}

    def background(self, number: int) -> Tensor:
        """Return variant `number % NUM_VARIANTS` of scene `number // NUM_VARIANTS`, [3, H, W] in [-1, 1]."""
        if number not in self._backgrounds:
            scene, variant = divmod(number, NUM_VARIANTS)
            picture = torch.from_numpy(draw_scene(self._scenes[scene], variant, self.height, self.width))
            self._backgrounds[number] = (picture.permute(2, 0, 1) * 2 - 1).contiguous()
        return self._backgrounds[number]

    def _level(self, index: int) -> Tensor:
        """Return all sprites at one pyramid level, [subjects, 4, S, S]: colour in [-1, 1] times alpha, then alpha."""
        if index not in self._levels:
            side = int(self._sides[index])
            scaled = self._sprites
            if side != scaled.shape[-1]:
                scaled = functional.interpolate(scaled, size=(side, side), mode="bicubic", antialias=True)
            alpha = scaled[:, 3:].clamp(0, 1)
            colour = torch.minimum(scaled[:, :3].clamp_min(0), alpha)
            self._levels[index] = torch.cat([2 * colour - alpha, alpha], dim=1).contiguous()
        return self._levels[index]

    def _grid(self, centers: Tensor, sides: Tensor, angles: Tensor) -> Tensor:
        """Return the sampling grid: position in the sprite image for each pixel of each frame, [N, H, W, 2]."""
        # The pixel at p (in half-widths) samples the sprite image, which spans [-1, 1], at
        # R(-angle) (p - center) / side. affine_grid returns y in half-heights, hence the aspect.
        aspect = self.height / self.width
        cosine, sine = torch.cos(angles) / sides, torch.sin(angles) / sides
        x, y = centers.unbind(-1)
        theta = torch.stack(
            [
                torch.stack([cosine, sine * aspect, -(cosine * x + sine * y)], dim=-1),
                torch.stack([-sine, cosine * aspect, sine * x - cosine * y], dim=-1),
            ],
            dim=1,
        )
        return functional.affine_grid(theta, [len(sides), 1, self.height, self.width], align_corners=False)

    def render(
        self,
        subjects: NDArray[np.int64],
        backgrounds: NDArray[np.int64],
        *,
        centers: NDArray[np.float64],
        diameters: NDArray[np.float64],
        angles: NDArray[np.float64],
    ) -> Tensor:
        """Render N frames.

        Args:
            subjects: [N] indices into the renderer's subjects.
            backgrounds: [N] numbers as in `background`.
            centers: [N, 2] in half-widths from the middle.
            diameters: [N] in widths.
            angles: [N] in radians, clockwise.

        Returns:
            [N, 3, H, W], floats in [-1, 1].
        """
        numbers, places = np.unique(backgrounds, return_inverse=True)
        distinct = torch.stack([self.background(int(number)) for number in numbers])
        frames = distinct[torch.from_numpy(places)]
        sides = diameters * SIDE_PER_DIAMETER
        levels = np.searchsorted(self._sides, sides * self.width).clip(max=len(self._sides) - 1)
        grid = self._grid(
            torch.from_numpy(centers).float(),
            torch.from_numpy(sides).float(),
            torch.from_numpy(angles).float(),
        )
        which = torch.from_numpy(subjects)
        for level in np.unique(levels):
            chosen = torch.from_numpy(np.flatnonzero(levels == level))
            sprites = functional.grid_sample(
                self._level(int(level))[which[chosen]], grid[chosen], mode="bilinear", align_corners=False
            )
            frames[chosen] = frames[chosen] * (1 - sprites[:, 3:]) + sprites[:, :3]
        return frames
