"""Toy TorchScript modules, one for each interface."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


class FrameScore(nn.Module):
    """The mean of each frame."""

    def forward(self, frames: Tensor) -> Tensor:
        return frames.mean(dim=(1, 2, 3))


class FrameEmbedding(nn.Module):
    """The mean of each colour."""

    def forward(self, frames: Tensor) -> Tensor:
        return frames.mean(dim=(2, 3))


class VideoScores(nn.Module):
    """Two numbers: the means of red and green."""

    def forward(self, video: Tensor) -> Tensor:
        return video.mean(dim=(2, 3, 4))[0, :2]


class Flow(nn.Module):
    """A flow of (8, 4) pixels everywhere, times the brightness of the first frame."""

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        ones = torch.ones_like(before[:, :1]) * before.mean()
        return torch.cat([8 * ones, 4 * ones], dim=1)


class I3D(nn.Module):
    """The mean and the first value of a clip; checks the options."""

    def forward(self, clip: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        assert return_features
        assert not rescale
        assert not resize
        assert clip.shape[3:] == (224, 224)
        return torch.stack([clip.mean(), clip[0, 0, 0, 0, 0]])[None]


class Inception(nn.Module):
    """Features [mean] and two class probabilities by brightness."""

    def forward(self, frames: Tensor, return_features: bool = False, no_output_bias: bool = False) -> Tensor:
        share = frames.float().mean(dim=(1, 2, 3))[:, None] / 255.0
        if return_features:
            return share
        return torch.cat([share, 1.0 - share], dim=1)


class Action(nn.Module):
    """Logits of three classes; the second is the likeliest."""

    def forward(self, video: Tensor) -> Tensor:
        return torch.tensor([[0.0, 2.0, 1.0]])


class Detector(nn.Module):
    """Two confident objects of label 1 on the left and right half, and one that is not confident."""

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height, width = float(frame.shape[1]), float(frame.shape[2])
        boxes = torch.tensor([[0.0, 0.0, width / 2, height], [width / 2, 0.0, width, height], [0.0, 0.0, 1.0, 1.0]])
        return boxes, torch.tensor([0.9, 0.8, 0.1]), torch.tensor([1, 1, 0])


class Captioner(nn.Module):
    """The same caption for each frame."""

    def forward(self, frames: Tensor) -> list[str]:
        return ["a red kite over the sea"] * frames.shape[0]


def save(module: nn.Module, path: Path) -> Path:
    """Script a module into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
    return path
