"""Pixel values of pictures and videos: bytes from 0 to 255, or floats from 0 to 1. The dtype says which."""

from typing import Any

import numpy as np

_TOLERANCE = 1e-3
"""Distance from the range that rounding explains."""


def as_bytes(pixels: np.ndarray, name: str) -> np.ndarray:
    """Return pixels as uint8: floats from 0 to 1 are scaled and rounded, uint8 is returned unchanged.

    Args:
        pixels: uint8 or floating point, any shape.
        name: name of the pixels in error messages, such as "frames".

    Raises:
        ValueError: another dtype, or floats outside 0 to 1, which would be shown in wrong colours.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ValueError(f"{name} are {pixels.dtype}; expected uint8, or floats from 0 to 1")
    result = np.empty(pixels.shape, np.uint8)
    # One frame at a time: a long video in floating point is large, and each operation makes another copy.
    parts = zip(pixels, result, strict=True) if pixels.ndim > 3 else [(pixels, result)]
    for part, target in parts:
        check_range(part, name)
        target[...] = (part.astype(np.float32) * 255).round().clip(0, 255)
    return result


def check_range(pixels: Any, name: str) -> None:
    """Raise ValueError unless floating-point pixels (an array or a tensor) lie between 0 and 1."""
    if 0 in pixels.shape:
        return
    least, most = float(pixels.min()), float(pixels.max())
    if least >= -_TOLERANCE and most <= 1 + _TOLERANCE:
        return
    if not (np.isfinite(least) and np.isfinite(most)):
        hint = "they contain NaN or infinity"
    elif least >= -1 - _TOLERANCE and most <= 1 + _TOLERANCE:
        hint = "if they range from -1 to 1, pass (pixels + 1) / 2"
    else:
        hint = "if they range from 0 to 255, pass them as uint8 or divided by 255"
    raise ValueError(f"{name} have values from {least:g} to {most:g}; expected 0 to 1 in floating point; {hint}")
