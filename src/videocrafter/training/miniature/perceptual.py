"""A perceptual distance: how much the features of a pretrained network differ between two frames.

Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (arXiv 1801.03924),
here on EfficientNet-Lite0 and with equal weights for all channels. It is not LPIPS, whose weights people calibrated.
"""

from __future__ import annotations

from torch import Tensor, nn

from videocrafter.models.efficientnet_lite import load_efficientnet_lite0

_EPS = 1e-6


class PerceptualDistance(nn.Module):
    """Distance between frames `[F, 3, H, W]` in [-1, 1], a scalar; 0 for equal frames.

    At each of four resolutions, features are normalised over channels at each position; the mean squared difference
    is summed over channels and averaged over positions, frames and resolutions.

    Raises:
        FileNotFoundError: the weights are not installed; the message says how to get them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = load_efficientnet_lite0()

    def forward(self, frames_FCHW: Tensor, targets_FCHW: Tensor) -> Tensor:
        distances = [
            (_normalised(features) - _normalised(target)).square().sum(dim=1).mean()
            for features, target in zip(
                self.network.stages(frames_FCHW), self.network.stages(targets_FCHW), strict=True
            )
        ]
        return sum(distances[1:], distances[0]) / len(distances)


def _normalised(features_FCHW: Tensor) -> Tensor:
    features = features_FCHW.float()
    return features / (features.square().sum(dim=1, keepdim=True) + _EPS).sqrt()
