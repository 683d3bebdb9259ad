"""Convert images to sRGB from the colours that their files state: ICC profiles and gamma."""

import io
import logging

import numpy as np
from PIL import Image, ImageCms

_log = logging.getLogger(__name__)

# By the colour space of a profile: the mode that it converts, and the modes of images that it may belong to.
_MODES = {
    "RGB": ("RGB", ("RGB", "L", "1", "P", "YCbCr")),
    "GRAY": ("L", ("L", "1")),
    "CMYK": ("CMYK", ("CMYK",)),
}
_SRGB_GAMMA = 1 / 2.2
# A viewer ignores smaller differences in gamma, which come from rounding.
_GAMMA_TOLERANCE = 0.02


def to_srgb(image: Image.Image, name: str) -> Image.Image:
    """Convert an image of 8 bits per channel, without transparency, to RGB in sRGB.

    A profile that is damaged or made for other images is ignored, with a line in the log.
    """
    profile = image.info.get("icc_profile")
    if image.mode == "LAB":  # the mode tells the colours, and Pillow converts it only by profile
        return _applied(image, _to_srgb(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB"))
    if profile:
        try:
            return _by_profile(image, profile)
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
            _log.warning("%s has an unusable colour profile, which is ignored (%s)", name, error)
    image_gamma = image.info.get("gamma")
    rgb = image.convert("RGB")
    if profile or "srgb" in image.info or not isinstance(image_gamma, float) or image_gamma <= 0:
        return rgb
    exponent = _SRGB_GAMMA / image_gamma
    if abs(exponent - 1) < _GAMMA_TOLERANCE:
        return rgb
    return rgb.point([round(255 * (level / 255) ** exponent) for level in range(256)] * 3)


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = opened.profile.xcolor_space.strip()
    mode, allowed = _MODES.get(space, ("", ()))
    if image.mode not in allowed:
        raise ValueError(f"it is for the colour space {space}, but the image has the mode {image.mode}")
    transform = _to_srgb(opened, mode)
    if mode == "RGB" and _changes_nothing(transform):
        return image.convert("RGB")
    return _applied(image.convert(mode), transform)


def _to_srgb(profile: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        profile,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent(ImageCms.getDefaultIntent(profile)),
    )


def _applied(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # nothing is returned only for conversions in place
    return converted


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Return whether a profile is sRGB itself, as most are, by many names: pixels must then stay as they are."""
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    converted = np.asarray(_applied(Image.fromarray(colours), transform))
    return int(np.abs(converted.astype(int) - colours).max()) <= 2
