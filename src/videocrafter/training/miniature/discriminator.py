"""The patch discriminator that sharpens the miniature's autoencoder.

Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks" (arXiv 1611.07004), with the
hinge loss. It judges overlapping patches, so it teaches texture and edges and leaves content to the other losses.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Frames `[F, 3, H, W]` in [-1, 1] to one score per patch, `[F, 1, H/8, W/8]`; real patches score above 0.

    The patches measure 46 pixels.
    """

    def __init__(self, channels: int = 48) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1),
            nn.GroupNorm(8, 2 * channels),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * channels, 2 * channels, 4, stride=2, padding=1),
            nn.GroupNorm(8, 2 * channels),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * channels, 1, 3, padding=1),
        )

    def forward(self, frames_FCHW: Tensor) -> Tensor:
        scores: Tensor = self.layers(frames_FCHW)
        return scores


def adversarial_losses(
    discriminator: PatchDiscriminator, reconstruction: Tensor, real: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the loss of the network that reconstructs, and the loss of the discriminator (hinge).

    Gradients of the first reach only the reconstruction, gradients of the second only the discriminator.
    """
    fixed = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    fooling = -torch.func.functional_call(discriminator, fixed, (reconstruction,)).float().mean()
    on_real = discriminator(real).float()
    on_reconstruction = discriminator(reconstruction.detach()).float()
    telling = nn.functional.relu(1 - on_real).mean() + nn.functional.relu(1 + on_reconstruction).mean()
    return fooling, telling
