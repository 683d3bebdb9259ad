"""Animated WebP for previews, and still WebP for posters."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

_LARGEST_SIDE = 256
_MOST_FRAMES = 64


def encode_webp(frames: np.ndarray, fps: float) -> bytes:
    """Encode frames uint8 [T, H, W, 3] as an endless animation of at most 256 pixels per side and 64 frames.

    Small frames are enlarged without smoothing by the page, not here.
    """
    if len(frames) > _MOST_FRAMES:
        chosen = np.linspace(0, len(frames) - 1, _MOST_FRAMES).round().astype(int)
        fps *= _MOST_FRAMES / len(frames)
        frames = frames[chosen]
    images = [Image.fromarray(frame) for frame in frames]
    for image in images:
        image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    file = io.BytesIO()
    first, *others = images
    if others:
        duration = max(20, round(1000 / fps))
        first.save(file, "WEBP", save_all=True, append_images=others, duration=duration, loop=0, quality=80, method=0)
    else:
        first.save(file, "WEBP", quality=85, method=2)
    return file.getvalue()
