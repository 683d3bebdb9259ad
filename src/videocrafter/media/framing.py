"""How pictures of any shape come to fill a frame of a given size: no black bars, nothing stretched."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

MAX_ASPECT = 8.0
"""Pictures longer than this are strips, or come from a broken header."""


@dataclass(frozen=True, kw_only=True)
class Framing:
    """Scale a picture until it fills `height` x `width` pixels, and cut off the rest.

    Attributes:
        x, y: which part stays, from 0 (left, top) over 0.5 (middle) to 1 (right, bottom).
        flip: whether left and right are exchanged.
    """

    height: int
    width: int
    x: float = 0.5
    y: float = 0.5
    flip: bool = False

    def filling_size(self, height: float, width: float) -> tuple[int, int]:
        """Height and width of a picture of this shape once it is scaled to fill the frame."""
        scale = max(self.height / height, self.width / width)
        return max(self.height, round(height * scale)), max(self.width, round(width * scale))

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """Cut the frame out of a filling picture `[H, W, C]`."""
        top = round((pixels.shape[0] - self.height) * self.y)
        left = round((pixels.shape[1] - self.width) * self.x)
        pixels = pixels[top : top + self.height, left : left + self.width]
        return pixels[:, ::-1] if self.flip else pixels


Framer = Callable[[int, int], Framing]
"""Says, given height and width as shown, how a clip is framed."""


def frame_image(pixels: np.ndarray, framing: Framing) -> np.ndarray:
    """Frame an image, uint8 `[H, W, 3]`."""
    height, width = framing.filling_size(*pixels.shape[:2])
    if (height, width) != pixels.shape[:2]:
        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
    return framing.cut(pixels)
