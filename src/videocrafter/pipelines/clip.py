"""Check, resize and encode an input clip, and decode latents, in chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from videocrafter.media.pixel_values import as_bytes
from videocrafter.models.autoencoder import FRAMES_AT_ONCE, decode_video, encode_video
from videocrafter.pipelines.output import OutputType, frames_as

CHUNK = FRAMES_AT_ONCE
"""Frames per chunk, for the autoencoder and for pixels in full precision."""


def check_clip(frames: Any) -> np.ndarray:
    """Return a clip as uint8 [T, H, W, 3]; it may also be floats from 0 to 1.

    Raises ValueError for another shape, dtype or range, and for a clip without frames.
    """
    if not isinstance(frames, np.ndarray) or frames.ndim != 4 or frames.shape[3] != 3:
        given = f"{frames.dtype} {list(frames.shape)}" if isinstance(frames, np.ndarray) else type(frames).__name__
        raise ValueError(
            f"a clip must be an array [T, H, W, 3], as media.video_file.read_frames returns, but is {given}"
        )
    if 0 in frames.shape:
        raise ValueError(f"a clip needs at least one frame and one pixel, but has shape {list(frames.shape)}")
    return as_bytes(frames, "pixels")


def fit_clip(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale a clip [T, H, W, 3] to cover `height` x `width`, then crop it to that size around its centre.

    A clip of that size is returned unchanged.
    """
    if frames.shape[1:3] == (height, width):
        return frames
    factor = max(height / frames.shape[1], width / frames.shape[2])
    size = (max(height, round(frames.shape[1] * factor)), max(width, round(frames.shape[2] * factor)))
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    fitted = np.empty((len(frames), height, width, 3), np.uint8)
    for start in range(0, len(frames), CHUNK):
        pixels = torch.from_numpy(np.ascontiguousarray(frames[start : start + CHUNK])).permute(0, 3, 1, 2).float()
        scaled = interpolate(pixels, size, mode="bicubic", antialias=True)
        cut = scaled[:, :, top : top + height, left : left + width].round().clamp(0, 255)
        fitted[start : start + CHUNK] = cut.to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return fitted


def encode_clip(pipeline: Any, frames: np.ndarray) -> Tensor:
    """Encode a clip uint8 [T, H, W, 3] into latents [C, T, h, w], float32: the mean, not a sample.

    The clip must have a size that the pipeline allows.
    """
    device = pipeline._execution_device
    parts = []
    for start in range(0, len(frames), CHUNK):
        part = torch.from_numpy(np.ascontiguousarray(frames[start : start + CHUNK])).to(device)
        pixels = part.permute(0, 3, 1, 2)[None].float() / 127.5 - 1.0
        with torch.no_grad():
            parts.append(encode_video(pipeline.vae, pixels, sample=False, chunk=CHUNK)[0].float())
    return torch.cat(parts, dim=1)


def decoded_chunks(pipeline: Any, latents: Tensor, output_type: OutputType = "uint8") -> Iterator[np.ndarray]:
    """Decode one video's latents [C, T, h, w] into frames [t, H, W, 3], at most `CHUNK` at a time: "uint8" or "np".

    For long videos: a writer can take the frames one chunk at a time, so that they are never all in memory.
    """
    for part in latents.split(CHUNK, dim=1):
        with torch.no_grad():
            chunk = pipeline.memory_settings.frames_at_once
            pixels = decode_video(pipeline.vae, part[None].to(pipeline.vae.dtype), chunk=chunk)
        yield frames_as(pixels, output_type)[0]
