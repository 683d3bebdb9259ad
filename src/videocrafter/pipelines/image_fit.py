"""How a picture of another shape than the video is brought to the video's shape.

The image encoder squashes whatever it is shown into a square, in training too, where pictures had the shape of
the videos. So what matters is the shape before: a picture of the video's shape is seen as the model learned it.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor
from torch.nn.functional import pad

ImageFit = Literal["stretch", "crop", "pad"]
"""stretch: squash or widen the whole picture (the paper's); crop: cut off what juts out; pad: add grey borders."""

_MOST_PIXELS = 100_000_000


def check_image_fit(fit: str) -> None:
    """Raise ValueError unless `fit` is one of "stretch", "crop" and "pad"."""
    if fit not in get_args(ImageFit):
        raise ValueError(f"image_fit must be one of {', '.join(get_args(ImageFit))}; got {fit!r}")


def fit_image(image: Tensor, height: int, width: int, fit: ImageFit) -> Tensor:
    """Bring a picture `[3, H, W]` in [-1, 1] to the shape (not the size) of a video of `height` x `width`.

    "stretch" returns it as it is, because the image encoder stretches it. "crop" cuts as much off both ends of
    the longer side. "pad" adds as much mid-grey, which the model knows as "no image", to both ends of the
    shorter one; it raises ValueError for pictures so thin that this would need more than 100 megapixels.
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
            f"a picture of {given_width}x{given_height} is too thin to be padded to the shape of {width}x{height};"
            " crop it first, or use the fit crop"
        )
    rows, columns = new_height - given_height, new_width - given_width
    return pad(image, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
