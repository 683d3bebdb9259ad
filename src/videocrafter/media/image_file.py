"""Read and write images with Pillow. Images are uint8 `[H, W, 3]`: red, green, blue."""

import math
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
from videocrafter.media.colour_profile import to_srgb
from videocrafter.media.errors import MediaError
from videocrafter.media.pixel_values import as_bytes
from videocrafter.media.video_encoding import encode_png

MAX_PIXELS = 125_000_000
"""125 megapixels; phones take up to 108. Pillow needs 4 bytes for each, which is half a gigabyte."""

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


def read_image(
    path: str | Path | BinaryIO,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    *,
    min_side: int | None = None,
) -> np.ndarray:
    """Read an image as it is displayed, uint8 `[H, W, 3]` in sRGB.

    Applies the rotation that cameras store and the colour profile, blends transparency over white, converts grey to
    RGB and 16 bits to 8, and takes the first frame of an animation.

    Args:
        path: Any raster format that Pillow reads, or a binary file object.
        max_pixels: Largest number of pixels to decode; protects memory from files that unpack to gigabytes.
        name: Name of the file in error messages; None for its path.
        min_side: Shortest side that is enough. A larger image is shrunk by a whole factor, which saves memory. None
            keeps the size.

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
                if min_side is not None:
                    image.draft(None, _size_for(image, min_side))  # a JPEG can be decoded at half its size
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                return _as_rgb(name, _shrunk(image, min_side))
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        count = re.search(r"\d+", str(error))
        given = f"{int(count[0]) / 1e6:.0f} million" if count else "far too many"
        raise _too_large(name, given, max_pixels) from None
    except UnidentifiedImageError:
        if isinstance(path, Path) and _is_heic(path):
            raise MediaError(f"{name} is a HEIC photo, which cannot be read; export it as JPEG or PNG") from None
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
        image: `[H, W, 3]`, uint8 or floats from 0 to 1.
        text: Text chunks by keyword.
        overwrite: Whether an existing file is replaced.

    Raises:
        OutputExistsError: The file exists and `overwrite` is false.
        MediaError: The name does not end in `.png`, or the file cannot be written.
        ValueError: The image has another shape, dtype or range.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise MediaError(f"{path} does not end in .png; images are written as PNG, so choose a name that does")
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"image is {image.dtype} {list(image.shape)}; expected non-empty [H, W, 3]")
    pixels = np.ascontiguousarray(as_bytes(image, "pixels"))
    write_all({path: encode_png(pixels, dict(text or {}))}, overwrite=overwrite)


def _as_rgb(name: str, image: Image.Image) -> np.ndarray:
    if image.mode == "F":
        raise MediaError(f"{name} has floating-point pixels, whose value range is unknown; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = _grey_of_8_bits(name, image)
    if not image.has_transparency_data:
        return np.array(to_srgb(image, name))
    with_alpha = image.convert("RGBA")
    colours = image.convert("L") if image.mode == "LA" else with_alpha.convert("RGB")
    colours.info = image.info
    rgba = to_srgb(colours, name).convert("RGB")
    rgba.putalpha(with_alpha.getchannel("A"))
    opaque = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return np.array(Image.alpha_composite(opaque, rgba).convert("RGB"))


def _grey_of_8_bits(name: str, image: Image.Image) -> Image.Image:
    """Convert 16-bit grey, which Pillow may store in 32 bits."""
    grey = np.asarray(image)
    if grey.min() < 0 or grey.max() > 65535:
        raise MediaError(f"{name} has pixels of more than 16 bits; save it with 8 or 16 bits")
    eight_bits = Image.fromarray(((grey.astype(np.int64) + 128) // 257).astype(np.uint8))  # 65535 = 255 × 257
    eight_bits.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return eight_bits


def _size_for(image: Image.Image, min_side: int) -> tuple[int, int]:
    """Return the smallest width and height of this shape whose short side is `min_side`."""
    scale = min(1.0, min_side / min(image.size))
    return math.ceil(image.width * scale), math.ceil(image.height * scale)


def _shrunk(image: Image.Image, min_side: int | None) -> Image.Image:
    factor = 1 if min_side is None else min(image.size) // min_side
    if factor < 2 or image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        return image
    shrunk = image.reduce(factor)
    shrunk.info = image.info
    return shrunk


def _is_heic(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(12)
    return start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1")


def _too_large(name: str, given: str, max_pixels: int) -> TooManyPixelsError:
    return TooManyPixelsError(
        f"{name} has {given} pixels; at most {max_pixels / 1e6:g} million are allowed: reduce its size first"
    )
