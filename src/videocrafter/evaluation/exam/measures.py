"""Metrics of the exam as pure functions, without models or files.

Videos are float tensors [B, T, C, H, W] in [-1, 1]. Positions are in half-widths of the frame, which is 2 wide.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Share:
    """A fraction of successes.

    Attributes:
        value: successes / count, in [0, 1]; NaN if count is 0.
        count: number of trials.
    """

    value: float
    count: int


def share(successes: Sequence[bool]) -> Share:
    """Return the fraction of successes."""
    count = len(successes)
    return Share(value=sum(successes) / count if count else math.nan, count=count)


def shares_by(groups: Sequence[str], successes: Sequence[bool]) -> dict[str, Share]:
    """Return the share of each group, in order of first appearance."""
    if len(groups) != len(successes):
        raise ValueError(f"groups has {len(groups)} entries and successes {len(successes)}, expected equally many")
    members: dict[str, list[bool]] = {}
    for group, success in zip(groups, successes, strict=True):
        members.setdefault(group, []).append(success)
    return {group: share(values) for group, values in members.items()}


def confusions(asked: Sequence[Hashable], seen: Sequence[Hashable]) -> list[tuple[Hashable, Hashable, int]]:
    """Return (asked, seen, count) for each pair that differs, the most frequent first."""
    pairs = Counter((a, s) for a, s in zip(asked, seen, strict=True) if a != s)
    return [(a, s, n) for (a, s), n in sorted(pairs.items(), key=lambda item: (-item[1], str(item[0])))]


def velocity(centers: Tensor) -> Tensor:
    """Return the displacement per frame [B, 2] of paths [B, T, 2]: the slope of a line fitted to each path.

    The fit is least squares over all T >= 2 frames, so that an error in one frame has little weight.
    """
    frames = centers.shape[1]
    if frames < 2:
        raise ValueError(f"the paths have {frames} frames, expected at least 2")
    time = torch.arange(frames, dtype=centers.dtype, device=centers.device)
    time = time - time.mean()
    return torch.einsum("t,btd->bd", time, centers) / time.square().sum()


def moving_centers(videos: Tensor, threshold: float = 0.12) -> Tensor:
    """Return the centres [B, T, 2] of the moving object over a static background, without a model.

    The background is each pixel's median over the frames. It is correct only if the object covers every pixel in less
    than half of the frames, so slow objects are tracked badly; the exam reports this error. In a frame that nowhere
    differs from the background by more than `threshold`, the centre is (0, 0).
    """
    difference = (videos - videos.median(dim=1, keepdim=True).values).abs().mean(dim=2)
    weights = (difference - threshold).clamp(min=0.0)
    total = weights.sum(dim=(2, 3)).clamp(min=1e-8)
    height, width = weights.shape[2:]
    x = ((torch.arange(width, device=videos.device) + 0.5) * (2.0 / width) - 1.0).to(weights.dtype)
    y = ((torch.arange(height, device=videos.device) + 0.5) * (2.0 / height) - 1.0).to(weights.dtype)
    return torch.stack(((weights.sum(2) * x).sum(2) / total, (weights.sum(3) * y).sum(2) / total), dim=-1)


def rmse(images: Tensor, others: Tensor) -> Tensor:
    """Return the root-mean-square difference of images [B, C, H, W] in [-1, 1]: [B], from 0 to 2."""
    return (images - others).square().mean(dim=(1, 2, 3)).sqrt()


def ssim(images: Tensor, others: Tensor, sigma: float = 1.5) -> Tensor:
    """Return the structural similarity of images [B, C, H, W] in [-1, 1]: [B], 1 if equal (Wang et al. 2004).

    Gaussian window of 11x11 pixels with `sigma` in pixels, constants 0.01 and 0.03 of the range 2, no padding,
    averaged over positions and channels. Height and width must be at least 11.
    """
    if min(images.shape[-2:]) < 11:
        raise ValueError(f"the images have {tuple(images.shape[-2:])} pixels, expected at least 11x11 for SSIM")
    offsets = torch.arange(-5, 6, dtype=images.dtype, device=images.device)
    bell = torch.softmax(-0.5 * (offsets / sigma) ** 2, dim=0)

    # The formula treats means as luminance, which must not be negative. Variances are small differences of large
    # numbers, hence double precision.
    images, others, bell = images.double() + 1.0, others.double() + 1.0, bell.double()

    def smooth(x: Tensor) -> Tensor:
        x = x.flatten(0, 1).unsqueeze(1)
        rows = functional.conv2d(x, bell.view(1, 1, 1, 11))
        return functional.conv2d(rows, bell.view(1, 1, 11, 1))

    mean_a, mean_b = smooth(images), smooth(others)
    variance_a = smooth(images * images) - mean_a**2
    variance_b = smooth(others * others) - mean_b**2
    covariance = smooth(images * others) - mean_a * mean_b
    c1, c2 = (0.01 * 2.0) ** 2, (0.03 * 2.0) ** 2
    luminance = (2.0 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2.0 * covariance + c2) / (variance_a + variance_b + c2)
    return (luminance * structure).flatten(1).mean(dim=1).view(images.shape[:2]).mean(dim=1).float()


def pairwise_distance(videos: Tensor) -> float:
    """Return the mean root-mean-square difference over all pairs of N videos [N, ...]; NaN for N < 2."""
    count = len(videos)
    if count < 2:
        return math.nan
    flat = videos.flatten(1)
    distances = [float((flat[i] - flat[j]).square().mean().sqrt()) for i in range(count) for j in range(i + 1, count)]
    return sum(distances) / len(distances)


def cosine_distance(features: Tensor, others: Tensor) -> Tensor:
    """Return 1 - cosine similarity of feature rows [B, D]: [B], 0 for equal directions."""
    return 1.0 - functional.cosine_similarity(features, others, dim=1)
