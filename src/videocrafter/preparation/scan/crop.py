"""Black bars, and the part of the picture without them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# A row or column of a bar: dark, and even.
_MAX_MEAN, _MAX_DEVIATION = 16.0, 4.0
# Next to a bar, the picture is brighter than this at some time. A dark sky does not end that sharply.
_MIN_PICTURE = 24.0
_NUM_FRAMES = 8

Crop = tuple[float, float, float, float]
"""Top, bottom, left and right of the picture, in parts of height and width."""

WHOLE: Crop = (0.0, 1.0, 0.0, 1.0)


def find_crop(rows: Sequence[np.ndarray], columns: Sequence[np.ndarray]) -> Crop:
    """Return the picture without its black bars.

    Args:
        rows, columns: of some frames, mean and deviation of luma in every row `[2, H]` and column `[2, W]`.
    """
    if not rows:
        return WHOLE
    picked = np.linspace(0, len(rows) - 1, min(_NUM_FRAMES, len(rows))).round().astype(int)
    top, bottom = _inside(np.stack([rows[index] for index in picked]))
    left, right = _inside(np.stack([columns[index] for index in picked]))
    if bottom - top < 0.2 or right - left < 0.2:
        return WHOLE  # a black picture rather than bars
    return top, bottom, left, right


def cropped(picture: np.ndarray, crop: Crop) -> np.ndarray:
    """Return a picture `[H, W]` or `[H, W, C]` without its bars; at least two pixels of each side."""
    height, width = picture.shape[:2]
    rows = slice(int(np.ceil(crop[0] * height)), max(int(crop[1] * height), 2))
    columns = slice(int(np.ceil(crop[2] * width)), max(int(crop[3] * width), 2))
    return picture[rows, columns]


def is_bar(lines: np.ndarray) -> np.ndarray:
    """Return which lines are dark and even, from mean and deviation `[..., 2, lines]`."""
    found: np.ndarray = (lines[..., 0, :] < _MAX_MEAN) & (lines[..., 1, :] < _MAX_DEVIATION)
    return found


def _inside(lines: np.ndarray) -> tuple[float, float]:
    """Return start and end of the picture along one axis, from `[frames, 2, lines]`."""
    mean = lines[:, 0]
    in_bar = is_bar(lines).mean(axis=0) >= 0.95
    count = len(in_bar)
    if in_bar.all():
        return 0.0, 0.0
    start, end = int(np.argmin(in_bar)), count - int(np.argmin(in_bar[::-1]))
    # The line at the border is a mixture of both, so it goes, too.
    inner = mean.max(axis=0)
    if start and inner[min(start + 1, count - 1)] > _MIN_PICTURE:
        start += 1
    else:
        start = 0
    if end < count and inner[max(end - 2, 0)] > _MIN_PICTURE:
        end -= 1
    else:
        end = count
    return start / count, end / count
