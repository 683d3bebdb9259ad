"""Read and write images with Pillow. Images are uint8 `[H, W, 3]`: red, green, blue."""

import re
import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from videocrafter.media.atomic_write import write_all
from videocrafter.media.errors import MediaError
from videocrafter.media.video_encoding import encode_png

MAX_PIXELS = 50_000_000
"""50 megapixels, as large cameras take them: 150 MB as RGB."""

# Vector formats, which Pillow passes to another program (Ghostscript), whatever the suffix of the file.
_DRAWINGS = ("EPS", "WMF")

# Errors that Pillow's decoders raise on damaged files.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)


class TooManyPixelsError(MediaError):
    """An image has more pixels than allowed."""


def read_image(path: str | Path | BinaryIO, max_pixels: int = MAX_PIXELS, name: str | None = None) -> np.ndarray:
    """Read an image as it is displayed, uint8 `[H, W, 3]`.

    Applies the rotation that cameras store, blends transparency over white, converts grey to RGB and 16 bits to 8,
    and takes the first frame of an animation.

    Args:
        path: Any raster format that Pillow reads, or a binary file object.
        max_pixels: Largest number of pixels to decode; protects memory from files that unpack to gigabytes.
        name: Name of the file in error messages; None for its path.

    Raises:
        MediaError: The file is missing, not an image, damaged, truncated, too large, or has floating-point pixels.
    """
    path = Path(path) if isinstance(path, str) else path
    name = name or str(path)
    if isinstance(path, Path) and not path.is_file():
        raise MediaError(f"{name} does not exist or is not a file; pass the path of an image such as a PNG or JPEG")
    try:
        with warnings.catch_warnings():
            # Warnings about size, where `max_pixels` is stricter, and about damaged metadata that is not used here.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.format in _DRAWINGS:
                    raise MediaError(f"{name} is a vector drawing ({image.format}); save it as PNG")
                if image.width * image.height > max_pixels:
                    raise _too_large(name, f"{image.width}x{image.height}", max_pixels)
                image.load()
                return _as_rgb(name, ImageOps.exif_transpose(image))
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        count = re.search(r"\d+", str(error))
        given = f"{int(count[0]) / 1e6:.0f} million" if count else "far too many"
        raise _too_large(name, given, max_pixels) from None
    except UnidentifiedImageError:
        raise MediaError(f"{name} is not an image that can be read; use a PNG, JPEG, WebP or TIFF") from None
    except _DECODE_ERRORS as error:
        raise MediaError(
            f"{name} cannot be decoded ({error}); the file is damaged or truncated: save or download it again"
        ) from error


def write_image(
    path: str | Path, image: np.ndarray, text: Mapping[str, str] | None = None, *, overwrite: bool = False
) -> None:
    """Write a PNG completely or not at all.

    Args:
        path: A name that ends in `.png`.
        image: uint8 `[H, W, 3]`.
        text: Text chunks by keyword.
        overwrite: Whether an existing file is replaced.

    Raises:
        OutputExistsError: The file exists and `overwrite` is false.
        MediaError: The name does not end in `.png`, or the file cannot be written.
        ValueError: The image has another shape or dtype.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise MediaError(f"{path} does not end in .png; images are written as PNG, so choose a name that does")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"image is {image.dtype} {list(image.shape)}; expected non-empty uint8 [H, W, 3]")
    write_all({path: encode_png(np.ascontiguousarray(image), dict(text or {}))}, overwrite=overwrite)


def _as_rgb(name: str, image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise MediaError(f"{name} has floating-point pixels, whose value range is unknown; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return _grey_to_rgb(name, np.asarray(image))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(opaque, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _grey_to_rgb(name: str, grey: np.ndarray) -> np.ndarray:
    """Convert 16-bit grey `[H, W]` (which Pillow may store in 32 bits) to uint8 `[H, W, 3]`."""
    if grey.min() < 0 or grey.max() > 65535:
        raise MediaError(f"{name} has pixels of more than 16 bits; save it with 8 or 16 bits")
    eight_bits = ((grey.astype(np.int64) + 128) // 257).astype(np.uint8)  # 65535 = 255 × 257
    return np.repeat(eight_bits[..., None], 3, axis=-1)


def _too_large(name: str, given: str, max_pixels: int) -> TooManyPixelsError:
    return TooManyPixelsError(
        f"{name} has {given} pixels; at most {max_pixels / 1e6:g} million are allowed: reduce its size first"
    )
