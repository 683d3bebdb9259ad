"""Previews while sampling: a linear map turns latents into colours, without the decoder.

A latent's channels are close to linear in the mean colour of its pixels. The map is fitted once per autoencoder, by
least squares on synthetic images; after that a preview costs one small matrix product.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from videocrafter.models.autoencoder import encode_video, spatial_factor

_NUM_IMAGES = 16
_LATENTS_PER_SIDE = 16


class LatentPreview:
    """Linear map from latents to colours for one autoencoder.

    Attributes:
        weight: [C, 3].
        bias: [3].
        scale: pixels per latent and side; previews are enlarged by it to the size of the video.
    """

    def __init__(self, weight: Tensor, bias: Tensor, scale: int) -> None:
        self.weight = weight
        self.bias = bias
        self.scale = scale

    @classmethod
    @torch.no_grad()
    def fit(cls, vae: AutoencoderKL) -> LatentPreview:
        """Fit the map to 16 synthetic images of 16 x 16 latents each. Deterministic for one autoencoder.

        Takes as long as encoding two seconds of video.
        """
        scale = spatial_factor(vae)
        images = _patchwork(scale * _LATENTS_PER_SIDE).to(vae.device)
        latents = encode_video(vae, images[None], sample=False, chunk=4)[0].float().cpu()
        colours = (
            adaptive_avg_pool2d(images.cpu(), (_LATENTS_PER_SIDE, _LATENTS_PER_SIDE))
            .permute(0, 2, 3, 1)
            .reshape(-1, 3)
        )
        features = latents.permute(1, 2, 3, 0).flatten(0, 2)
        centred = features - features.mean(dim=0)
        # Ridge regularisation: channels that never vary on these images must not get huge weights.
        gram = centred.T @ centred + 1e-4 * len(centred) * torch.eye(centred.shape[1])
        weight = torch.linalg.solve(gram, centred.T @ (colours - colours.mean(dim=0)))
        return cls(weight, colours.mean(dim=0) - features.mean(dim=0) @ weight, scale)

    def frames(self, latents: Tensor) -> np.ndarray:
        """Turn latents [N, C, T, h, w] into frames uint8 [N, T, H, W, 3] in the size of the video."""
        flat = latents.detach().float().cpu().permute(0, 2, 3, 4, 1)
        colours = torch.nan_to_num(flat @ self.weight + self.bias).clamp(-1.0, 1.0)
        small = ((colours + 1.0) * 127.5).round().to(torch.uint8)
        return small.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3).numpy()


def _patchwork(size: int) -> Tensor:
    """Draw images [16, 3, size, size] in [-1, 1]: random patches of colour, coarse to fine, smooth or hard-edged."""
    generator = torch.Generator().manual_seed(0)
    images = []
    for index in range(_NUM_IMAGES):
        patches = 2 ** (1 + index % 4)
        colours = torch.rand(1, 3, patches, patches, generator=generator) * 2 - 1
        smooth = index % 8 < 4
        mode, corners = ("bilinear", False) if smooth else ("nearest", None)
        images.append(interpolate(colours, (size, size), mode=mode, align_corners=corners)[0])
    return torch.stack(images)
