"""Scale and crop images of any shape to a given size, without black bars and without distortion."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

MAX_ASPECT = 8.0
"""Images with a larger aspect ratio are strips, or have a damaged header."""


@dataclass(frozen=True, kw_only=True)
class Framing:
    """Scale an image until it covers `height` x `width` pixels, and crop the rest.

    Attributes:
        x, y: position of the crop, from 0 (left, top) through 0.5 (centre) to 1 (right, bottom).
        flip: whether to mirror the image horizontally.
    """

    height: int
    width: int
    x: float = 0.5
    y: float = 0.5
    flip: bool = False

    def filling_size(self, height: float, width: float) -> tuple[int, int]:
        """Return height and width of an image of this shape after scaling, before the crop."""
        scale = max(self.height / height, self.width / width)
        return max(self.height, round(height * scale)), max(self.width, round(width * scale))

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """Crop a scaled image `[H, W, C]`."""
        top = round((pixels.shape[0] - self.height) * self.y)
        left = round((pixels.shape[1] - self.width) * self.x)
        pixels = pixels[top : top + self.height, left : left + self.width]
        return pixels[:, ::-1] if self.flip else pixels


Framer = Callable[[int, int], Framing]
"""Returns the framing of a clip from its displayed height and width."""


def shrunk(height: int, width: int, long_side: int) -> Framing:
    """Return the framing that shrinks an image to at most `long_side` pixels, each side to at least 16."""
    scale = min(1.0, long_side / max(height, width))
    return Framing(height=max(16, round(height * scale)), width=max(16, round(width * scale)))


def frame_image(pixels: np.ndarray, framing: Framing) -> np.ndarray:
    """Scale and crop an image, uint8 `[H, W, 3]`."""
    height, width = framing.filling_size(*pixels.shape[:2])
    if (height, width) != pixels.shape[:2]:
        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
    return framing.cut(pixels)
