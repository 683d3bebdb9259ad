"""Images as arguments: files, PIL images, arrays and tensors, and their order next to the prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from videocrafter.media.home_folder import expand_home
from videocrafter.media.image_file import read_image
from videocrafter.media.pixel_values import check_range
from videocrafter.pipelines.image_fit import fit_image, reduce_image
from videocrafter.pipelines.prompt_inputs import Prompts
from videocrafter.pipelines.settings import VideoRequest

ImageInput = Image.Image | np.ndarray | Tensor | str | Path
"""An image of any size: a path, a PIL image, an array [H, W, 3] or a tensor [3, H, W]. Arrays and tensors are uint8,
or floats from 0 to 1."""

Images = ImageInput | Sequence[ImageInput]
"""One image, or one per prompt: a list, an array [N, H, W, 3] or a tensor [N, 3, H, W]."""

_OBJECTS = (Image.Image, np.ndarray, Tensor, Path)


def in_order(
    positional: Sequence[Any], image: Any, prompt: Any, negative_prompt: Any
) -> tuple[Images | None, Prompts | None, Prompts | None]:
    """Return image, prompt and negative prompt of a call with up to three positional arguments.

    Image and prompt may come in either order, because diffusers' pipelines have both. They are told apart by type;
    an image that is a path in a string must be passed by keyword, or come first.

    Raises TypeError for an argument that is given twice, and for more than three positional ones.
    """
    keywords = {"image": image, "prompt": prompt, "negative_prompt": negative_prompt}
    names = ["image", "prompt", "negative_prompt"]
    if (
        positional
        and not _is_image(positional[0])
        and (image is not None or (len(positional) > 1 and _is_image(positional[1])))
    ):
        names = ["prompt", "negative_prompt"] if image is not None else ["prompt", "image", "negative_prompt"]
    if len(positional) > len(names):
        raise TypeError(f"expected at most {len(names)} positional arguments ({', '.join(names)})")
    for name, value in zip(names, positional, strict=False):
        if keywords[name] is not None:
            raise TypeError(f"{name} is given twice, by position and by keyword")
        keywords[name] = value
    return keywords["image"], keywords["prompt"], keywords["negative_prompt"]


def _is_image(value: Any) -> bool:
    """Return whether a value can only be an image, or several: no string, and no list of strings."""
    if isinstance(value, _OBJECTS):
        return not (isinstance(value, np.ndarray) and value.dtype.kind in "UO")
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(one, _OBJECTS) for one in value)


def image_to_tensor(image: Any) -> Tensor:
    """Convert an image to float32 [3, H, W] in [-1, 1].

    Raises ValueError for other shapes, types and ranges, for a file that cannot be read, and for an image that is one
    pixel wide or high.
    """
    if isinstance(image, str | Path):
        image = read_image(expand_home(image))
    elif isinstance(image, Image.Image):
        image = np.array(image.convert("RGB"))  # a copy: torch warns about read-only arrays
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"an image array must be [H, W, 3], but is {image.dtype} {list(image.shape)}")
        if image.dtype.kind not in "uif":
            raise ValueError(f"pixels are {image.dtype}; expected uint8, or floats from 0 to 1")
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    elif isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"an image tensor must be [3, H, W], but is {image.dtype} {list(image.shape)}")
        tensor = image.detach()
    else:
        raise ValueError(
            f"an image must be a path, a PIL image, an array [H, W, 3] or a tensor [3, H, W], but is"
            f" {type(image).__name__}"
        )
    if min(tensor.shape[1:]) < 2:
        raise ValueError(f"an image needs at least 2 pixels per side, but is {tensor.shape[2]}x{tensor.shape[1]}")
    if tensor.dtype == torch.uint8:
        return tensor.float() / 127.5 - 1.0
    if not tensor.is_floating_point():
        raise ValueError(f"pixels are {tensor.dtype}; expected uint8, or floats from 0 to 1")
    check_range(tensor, "pixels")
    return tensor.float().clamp(0.0, 1.0) * 2.0 - 1.0


def per_video_images(image: Images, request: VideoRequest) -> list[Tensor]:
    """Return one tensor [3, H, W] per video from one image or one per prompt, fitted to the shape of the videos.

    An image that repeats is converted once. Raises ValueError for a wrong count or something that is not an image.
    """
    num_prompts = request.num_videos // request.num_videos_per_prompt
    images, names = _one_per_prompt(image, num_prompts)
    if len(images) != num_prompts:
        raise ValueError(f"got {len(images)} images for {num_prompts} prompts; pass one, or one per prompt")
    tensors: dict[Any, Tensor] = {}
    keys = [str(one) if isinstance(one, str | Path) else id(one) for one in images]
    for name, key, one in zip(names, keys, images, strict=True):
        if key not in tensors:
            try:
                given = read_image(expand_home(one)) if isinstance(one, str | Path) else one
                tensor = image_to_tensor(reduce_image(given))
                tensors[key] = fit_image(tensor, request.height, request.width, request.image_fit)
            except ValueError as error:
                raise ValueError(f"{name}{error}") from error
    return [tensors[key] for key in keys for _ in range(request.num_videos_per_prompt)]


def _one_per_prompt(image: Images, num_prompts: int) -> tuple[list[ImageInput], list[str]]:
    """Return the images, and how errors name each."""
    is_batch = isinstance(image, np.ndarray | Tensor) and image.ndim == 4
    if isinstance(image, (*_OBJECTS, str)) and not is_batch:
        return [image] * num_prompts, [""] * num_prompts
    if not isinstance(image, Iterable):
        raise ValueError(f"image must be an image or a list with one per prompt, but is {type(image).__name__}")
    images: list[Any] = list(image)
    return images, [f"image {number} of {len(images)}: " for number in range(1, len(images) + 1)]
