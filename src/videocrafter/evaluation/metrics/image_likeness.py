"""Image to video: likeness of frames to the input image, the paper's content preservation. Pixels need no weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from videocrafter.evaluation.metrics.frame import Frame
from videocrafter.evaluation.metrics.optical_flow import opencv, resized_to_short_side

_SHORT_SIDE = 64


def pixel_likeness(frame: Frame) -> float:
    """Return 1 - the root mean square difference of colours in [0, 1], at a short side of 64 pixels.

    The image is scaled to cover the frame and cropped at the centre, as the pipelines do. Small sizes make the score
    one of composition and colour, not of detail.
    """
    assert frame.video.image is not None
    small = resized_to_short_side(frame.rgb, _SHORT_SIDE)
    image = covering(frame.video.image, *small.shape[:2])
    difference = (small.astype(np.float64) - image) / 255.0
    return 1.0 - float(np.sqrt((difference**2).mean()))


def covering(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return an image scaled to cover a size, and cropped to it at the centre: [height, width, 3] uint8."""
    cv2 = opencv()
    scale = max(height / image.shape[0], width / image.shape[1])
    size = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
    top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    return scaled[top : top + height, left : left + width]
