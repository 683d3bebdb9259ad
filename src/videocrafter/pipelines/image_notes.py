"""Notes about input images unlike those that a small model was trained on."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn.functional import interpolate, mse_loss

from videocrafter.models.autoencoder import decode_video, encode_video
from videocrafter.pipelines.image_input import ImageInput, image_to_tensor
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.settings import VideoRequest

LOWEST_PSNR_DB = 23.0
"""The shipped autoencoder reproduces frames of its training world at 25 dB or more, noise with the spectrum of
photographs at 18 dB or less, and white noise at 15 dB."""


def image_note(pipeline: Any, image: ImageInput, request: VideoRequest) -> str | None:
    """Return a note if the model's autoencoder cannot reproduce an image, so that its videos will not resemble it.

    Only models trained on a closed world are checked, and only those that take an image.
    """
    if not isinstance(pipeline, ImageToVideoPipeline) or not pipeline.knowledge.subjects:
        return None
    quality = reconstruction_psnr(pipeline, image, request.height, request.width)
    if quality >= LOWEST_PSNR_DB:
        return None
    return (
        "the image looks unlike the model's training images, so the video will show little of it (the autoencoder"
        f" reproduces it at {quality:.0f} dB PSNR; training images reach 25 or more)"
    )


@torch.no_grad()
def reconstruction_psnr(pipeline: ImageToVideoPipeline, image: ImageInput, height: int, width: int) -> float:
    """Return the PSNR in dB of an image, resized to the video, after the autoencoder has encoded and decoded it."""
    pixels = image_to_tensor(image)[None]
    pixels = interpolate(pixels, (height, width), mode="bilinear", antialias=True)[:, None]
    pixels = pixels.to(pipeline._execution_device, pipeline.vae.dtype)
    decoded = decode_video(pipeline.vae, encode_video(pipeline.vae, pixels, sample=False)).clamp(-1, 1)
    error = mse_loss(decoded.float(), pixels.float()).item()
    return 10 * math.log10(4 / error) if error else math.inf
