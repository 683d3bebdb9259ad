"""Fit an image to the shape of the video.

The image encoder squashes every image into a square. In training the images had the shape of the videos, so an image
of the video's shape looks to the model as in training.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

ImageFit = Literal["stretch", "crop", "pad"]
"""stretch: distort the whole image (as in the paper); crop: cut off what does not fit; pad: add grey borders."""

_MOST_PIXELS = 100_000_000
# Three times the side of the image encoder's input, which blurs and shrinks the image further.
_ENOUGH = 3 * 224


def reduce_image(image: Any) -> Any:
    """Shrink a photograph (PIL or uint8 [H, W, 3]) by a whole factor, to a short side of 672 pixels or a little more.

    The image encoder resizes it to 224 pixels anyway, but takes seconds and gigabytes for millions of pixels. An
    image with a short side below 1344 pixels, or anything else, is returned unchanged.
    """
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        height, width, _ = image.shape
    elif isinstance(image, Image.Image):
        width, height = image.size
    else:
        return image
    factor = min(height, width) // _ENOUGH
    if factor < 2:
        return image
    photo = image if isinstance(image, Image.Image) else Image.fromarray(image)
    return photo.convert("RGB").reduce(factor)


def check_image_fit(fit: str) -> None:
    """Raise ValueError unless `fit` is one of "stretch", "crop" and "pad"."""
    if fit not in get_args(ImageFit):
        raise ValueError(f"image_fit must be one of {', '.join(get_args(ImageFit))}, but is {fit!r}")


def fit_image(image: Tensor, height: int, width: int, fit: ImageFit) -> Tensor:
    """Fit an image `[3, H, W]` in [-1, 1] to the aspect ratio (not the size) of a `height` x `width` video.

    "stretch" returns it unchanged, because the image encoder stretches it. "crop" cuts both ends of the longer side
    equally. "pad" adds mid-grey, which the model sees as "no image", to both ends of the shorter side equally. Raises
    ValueError for an image so thin that padding would need more than 100 megapixels.
    """
    given_height, given_width = image.shape[1:]
    shape = width / height
    if fit == "stretch":
        return image
    if fit == "crop":
        new_height = max(2, min(given_height, round(given_width / shape)))
        new_width = max(2, min(given_width, round(given_height * shape)))
        top, left = (given_height - new_height) // 2, (given_width - new_width) // 2
        return image[:, top : top + new_height, left : left + new_width]
    new_height = max(given_height, round(given_width / shape))
    new_width = max(given_width, round(given_height * shape))
    if new_height * new_width > _MOST_PIXELS:
        raise ValueError(
            f"an image of {given_width}x{given_height} is too thin to be padded to the shape of {width}x{height};"
            " crop it first, or use the fit 'crop'"
        )
    rows, columns = new_height - given_height, new_width - given_width
    return pad(image, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
