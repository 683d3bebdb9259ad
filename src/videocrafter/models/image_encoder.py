"""The CLIP image encoder, from an image to the tokens that the image projector takes.

Shape suffixes: ``B`` images, ``C`` channels, ``H``, ``W``, ``M`` image tokens (class token and patches),
``D`` width. The network is transformers' ``CLIPVisionModel``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def encode_image(image_encoder: CLIPVisionModel, pixels_BCHW: Tensor) -> Tensor:
    """Encode images in [-1, 1] of any size into all tokens ``[B, M, D]`` of the last block, in the encoder's dtype.

    The class token comes first. There is no final norm and no projection: the paper uses all tokens, because the
    pooled embedding lacks detail (§3.2).
    """
    prepared_BCHW = preprocess(pixels_BCHW, image_encoder.config.image_size)
    return image_encoder(pixel_values=prepared_BCHW.to(image_encoder.dtype)).last_hidden_state


def null_image(batch: int, image_encoder: CLIPVisionModel, device: torch.device | None = None) -> Tensor:
    """Return the unconditional image: pixels ``[B, C, S, S]`` of the encoder's size, all 0 (mid-grey in [-1, 1]).

    It passes through encoder and projector like any image; the null condition is not a zero token. ``device`` is the
    device that the encoder computes on; None means that of its weights, which differs while they are offloaded.
    """
    size = image_encoder.config.image_size
    return torch.zeros(
        batch,
        image_encoder.config.num_channels,
        size,
        size,
        device=image_encoder.device if device is None else device,
        dtype=image_encoder.dtype,
    )


def preprocess(pixels_BCHW: Tensor, size: int) -> Tensor:
    """Resize images in [-1, 1] to ``size`` x ``size`` and normalise as CLIP does.

    Matches the official model exactly. The aspect ratio is not kept. Resizing is bicubic with aligned corners; if
    either side shrinks, both are first blurred with a Gaussian of ``sigma = max((factor - 1) / 2, 0.001)``. Computes
    in float32 or better. Raises ValueError unless the input is ``B C H W`` with three channels.
    """
    if pixels_BCHW.ndim != 4 or pixels_BCHW.shape[1] != len(CLIP_MEAN):
        raise ValueError(f"the image batch has shape {tuple(pixels_BCHW.shape)}; expected B 3 H W")
    pixels_BCHW = pixels_BCHW.to(torch.promote_types(pixels_BCHW.dtype, torch.float32))
    factors = (pixels_BCHW.shape[-2] / size, pixels_BCHW.shape[-1] / size)
    if max(factors) > 1:
        pixels_BCHW = _blur_before_shrinking(pixels_BCHW, factors)
    if pixels_BCHW.shape[-2:] != (size, size):
        pixels_BCHW = nn.functional.interpolate(pixels_BCHW, size=(size, size), mode="bicubic", align_corners=True)
    mean = torch.tensor(CLIP_MEAN).to(pixels_BCHW).view(-1, 1, 1)
    std = torch.tensor(CLIP_STD).to(pixels_BCHW).view(-1, 1, 1)
    return ((pixels_BCHW + 1) / 2 - mean) / std


def _blur_before_shrinking(pixels_BCHW: Tensor, factors: tuple[float, float]) -> Tensor:
    """Blur each axis according to its own shrink factor, with mirrored borders."""
    channels = pixels_BCHW.shape[1]
    for axis, factor in enumerate(factors):
        sigma = max((factor - 1) / 2, 0.001)
        taps = int(max(4 * sigma, 3)) | 1
        offsets = torch.arange(taps).to(pixels_BCHW) - taps // 2
        kernel = torch.softmax(-(offsets**2) / (2 * sigma**2), dim=0)
        shape = (taps, 1) if axis == 0 else (1, taps)
        border = (0, 0, taps // 2, taps // 2) if axis == 0 else (taps // 2, taps // 2, 0, 0)
        padded = nn.functional.pad(pixels_BCHW, border, mode="reflect")
        weight = kernel.view(1, 1, *shape).expand(channels, 1, *shape)
        pixels_BCHW = nn.functional.conv2d(padded, weight, groups=channels)
    return pixels_BCHW


def tiny_image_encoder(
    image_size: int = 64, patch: int = 8, hidden: int = 128, layers: int = 4, heads: int = 4
) -> CLIPVisionModel:
    """Build a small, randomly initialised image encoder with ``(image_size / patch)^2 + 1`` tokens."""
    if image_size % patch:
        raise ValueError(f"image_size is {image_size}; it must be a multiple of patch ({patch})")
    config = CLIPVisionConfig(
        image_size=image_size,
        patch_size=patch,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        projection_dim=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_act="gelu",
    )
    return CLIPVisionModel(config).eval()
