"""Image to video: likeness of frames to the input image, the paper's content preservation. Pixels need no weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from videocrafter.evaluation.metrics.frame import Frame
from videocrafter.evaluation.metrics.optical_flow import opencv, resized_to_short_side

_SHORT_SIDE = 64
_GREY = 128


def pixel_likeness(frame: Frame) -> float:
    """Return 1 - the root mean square difference of colours in [0, 1], at a short side of 64 pixels.

    Small sizes make the score one of composition and colour, not of detail.
    """
    assert frame.video.image is not None
    small = resized_to_short_side(frame.rgb, _SHORT_SIDE)
    image = fitted(frame.video.image, *small.shape[:2])
    difference = (small.astype(np.float64) - image) / 255.0
    return 1.0 - float(np.sqrt((difference**2).mean()))


def fitted(image: NDArray[np.uint8], height: int, width: int, fit: str = "stretch") -> NDArray[np.uint8]:
    """Return an input image in the shape of the frames, as the model saw it: [height, width, 3] uint8.

    Args:
        image: [H, W, 3] uint8.
        height, width: of the frames.
        fit: the recorded `image_fit`: "stretch" the whole image, "crop" it, or "pad" it with mid-grey.
    """
    if fit == "crop":
        return covering(image, height, width)
    if fit != "pad":
        return _resized(image, height, width)
    scale = min(height / image.shape[0], width / image.shape[1])
    inner = _resized(
        image, max(1, min(height, round(image.shape[0] * scale))), max(1, min(width, round(image.shape[1] * scale)))
    )
    framed = np.full((height, width, 3), _GREY, np.uint8)
    top, left = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
    framed[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return framed


def covering(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return an image scaled to cover a size, and cropped to it at the centre: [height, width, 3] uint8."""
    scale = max(height / image.shape[0], width / image.shape[1])
    size = (max(height, round(image.shape[0] * scale)), max(width, round(image.shape[1] * scale)))
    scaled = _resized(image, *size)
    top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    return scaled[top : top + height, left : left + width]


def _resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    cv2 = opencv()
    method = cv2.INTER_AREA if height * width < image.shape[0] * image.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)
