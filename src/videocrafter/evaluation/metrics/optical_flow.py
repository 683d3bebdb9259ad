"""Dense optical flow without weights: DIS (Kroeger et al., arXiv 1603.03590), from OpenCV."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def dense_flow(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the displacement of each pixel from one frame to the next, [H, W, 2] (x, y) in pixels.

    Args:
        before, after: [H, W, 3] uint8 of one size.

    Raises:
        ValueError: OpenCV is not installed.
    """
    cv2 = opencv()
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (before, after)]
    return np.asarray(_estimator().calc(grey[0], grey[1], None), np.float32)


def resized_to_short_side(rgb: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """Return a frame scaled to a short side, keeping its aspect ratio: by area when it shrinks, else bilinear."""
    cv2 = opencv()
    height, width = rgb.shape[:2]
    scale = short_side / min(height, width)
    if scale == 1:
        return rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, size, interpolation=method), np.uint8)


def warp(picture: NDArray[Any], flow: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Sample a picture at each pixel displaced by the flow, bilinearly.

    Args:
        picture: [H, W, C].
        flow: [H, W, 2] (x, y) in pixels.

    Returns:
        The warped picture [H, W, C] in float32, and where the sampled position is inside the picture, [H, W].
    """
    cv2 = opencv()
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = x + flow[..., 0], y + flow[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    warped = cv2.remap(picture.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.float32).reshape(height, width, -1), inside


@cache
def opencv() -> Any:
    """Return the OpenCV module, without threads of its own. Raises ValueError if it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise ValueError("measuring motion needs OpenCV; run pip install 'videocrafter[evaluation]'") from error
    # Results must not depend on the number of cores.
    cv2.setNumThreads(1)
    return cv2


@cache
def _estimator() -> Any:
    cv2 = opencv()
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
