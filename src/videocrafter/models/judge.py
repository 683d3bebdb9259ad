"""The judge: a small supervised classifier of sprite-world videos.

It shares no network with the generator (no CLIP, no VAE) and sees only pixels, neither caption nor fps, so its
verdict is independent of the model under test. Each frame passes through a small convolutional pyramid. A heat map
locates the sprite: the subject is classified from features at the sprite, the scene from features of the whole frame.
Convolutions over time classify the motion from changes of the sprite's position, size and appearance.

Shape suffixes: B videos, T frames, C channels, H, W pixels, h, w cells of the heat map, D features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional

IGNORED = -100
"""Motion label of a clip without a defined motion, such as a single image."""


@dataclass(frozen=True, kw_only=True)
class JudgeReading:
    """The judge's output for B videos of T frames.

    Attributes:
        subject_logits: [B, number of subjects].
        motion_logits: [B, number of motions]; meaningless for T = 1.
        scene_logits: [B, number of scenes].
        centers: [B, T, 2] sprite centre (x, y), from -1 to 1 within the frame, (0, 0) the middle, y downwards.
        log_size: [B, T] natural logarithm of the sprite's diameter, in units of the frame's width.
        heat_logits: [B, T, h, w] map of the sprite's position, before the softmax over h and w.
        features: [B, T, D] frame features (at the sprite, then averaged over the frame), for comparing frames.
    """

    subject_logits: Tensor
    motion_logits: Tensor
    scene_logits: Tensor
    centers: Tensor
    log_size: Tensor
    heat_logits: Tensor
    features: Tensor


@dataclass(frozen=True, kw_only=True)
class JudgeLabels:
    """Ground truth of B clips: class indices [B] (motion may be ``IGNORED``) and the sprite in each frame.

    ``centers`` [B, T, 2] and ``log_size`` [B, T] have the units of ``JudgeReading``.
    """

    subject: Tensor
    motion: Tensor
    scene: Tensor
    centers: Tensor
    log_size: Tensor


class ResidualConv(nn.Module):
    """Norm, SiLU, 3 x 3 convolution, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        out: Tensor = x_BCHW + self.conv(functional.silu(self.norm(x_BCHW)))
        return out


class FrameTrunk(nn.Module):
    """Feature pyramid whose levels are fused into one map at a quarter of the resolution."""

    def __init__(self, widths: Sequence[int], fused_width: int) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.stem = nn.Conv2d(5, first, 3, stride=2, padding=1)
        self.down1 = nn.Conv2d(first, second, 3, stride=2, padding=1)
        self.block1 = ResidualConv(second)
        self.down2 = nn.Conv2d(second, third, 3, stride=2, padding=1)
        self.block2 = ResidualConv(third)
        self.down3 = nn.Conv2d(third, fourth, 3, stride=2, padding=1)
        self.block3 = ResidualConv(fourth)
        self.fuse1 = nn.Conv2d(second, fused_width, 1)
        self.fuse2 = nn.Conv2d(third, fused_width, 1)
        self.fuse3 = nn.Conv2d(fourth, fused_width, 1)
        self.norm = nn.GroupNorm(8, fused_width)

    def forward(self, frames_BCHW: Tensor) -> Tensor:
        """Map frames [B, 3, H, W] in [-1, 1] to features [B, D, H / 4, W / 4]."""
        x_BCHW = torch.cat((frames_BCHW, coordinates(frames_BCHW)), dim=1)
        x_BCHW = functional.silu(self.stem(x_BCHW))
        quarter = self.block1(self.down1(x_BCHW))
        eighth = self.block2(self.down2(functional.silu(quarter)))
        sixteenth = self.block3(self.down3(functional.silu(eighth)))
        fused = self.fuse1(quarter)
        fused = fused + functional.interpolate(self.fuse2(eighth), scale_factor=2, mode="bilinear")
        fused = fused + functional.interpolate(self.fuse3(sixteenth), scale_factor=4, mode="bilinear")
        return functional.silu(self.norm(fused))


def coordinates(like_BCHW: Tensor) -> Tensor:
    """Coordinate channels [B, 2, H, W]: x and y of each pixel's centre, from -1 to 1."""
    batch, _, height, width = like_BCHW.shape
    y, x = torch.meshgrid(cell_middles(height, like_BCHW), cell_middles(width, like_BCHW), indexing="ij")
    return torch.stack((x, y)).expand(batch, 2, height, width)


def cell_middles(count: int, like: Tensor) -> Tensor:
    """Centres [count] of equal cells that tile -1 to 1, with the dtype and device of ``like``."""
    return (torch.arange(count, dtype=like.dtype, device=like.device) + 0.5) * (2.0 / count) - 1.0


class MotionReader(nn.Module):
    """Classifier of motion from the sprite's position, size and appearance over time."""

    def __init__(self, look_width: int, width: int, num_motions: int) -> None:
        super().__init__()
        self.look = nn.Linear(look_width, 32)
        self.conv1 = nn.Conv1d(2 * (32 + 3), width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1)
        self.out = nn.Sequential(nn.Linear(3 * width, width), nn.SiLU(), nn.Linear(width, num_motions))

    def forward(self, centers_BT2: Tensor, log_size_BT: Tensor, look_BTD: Tensor) -> Tensor:
        """Return logits [B, number of motions]; any T from 1."""
        track_BTD = torch.cat((4.0 * centers_BT2, 4.0 * log_size_BT[..., None], self.look(look_BTD)), dim=-1)
        # The mean position carries no information about motion, so it is subtracted. Differences between frames
        # separate a bounce or a spin from a straight line.
        path_BTD = track_BTD - track_BTD.mean(dim=1, keepdim=True)
        steps_BTD = torch.diff(track_BTD, dim=1, prepend=track_BTD[:, :1])
        x_BDT = torch.cat((path_BTD, steps_BTD), dim=-1).transpose(1, 2)
        x_BDT = functional.silu(self.conv1(x_BDT))
        x_BDT = x_BDT + functional.silu(self.conv2(x_BDT))
        ends_BD = x_BDT[..., -1] - x_BDT[..., 0]
        logits: Tensor = self.out(torch.cat((x_BDT.mean(dim=-1), x_BDT.amax(dim=-1), ends_BD), dim=-1))
        return logits


class VideoJudge(ModelMixin, ConfigMixin):
    """Classifier of subject, motion and scene, and tracker of the sprite, from pixels alone.

    Args:
        subjects, motions, scenes: names of the classes; their order is the order of the logits.
        size: side in pixels to which every frame is resized first.
        widths: channels of the four levels of the trunk (at 1/2, 1/4, 1/8, 1/16 of ``size``).
        fused_width: channels of the fused feature map that the heads use.
        motion_width: channels of the convolutions over time.
        diameter: mean diameter of the sprites in the world that it was trained on, in widths of the frame.
        fps_range: lowest and highest fps of that world.
    """

    @register_to_config
    def __init__(
        self,
        subjects: Sequence[str],
        motions: Sequence[str],
        scenes: Sequence[str],
        size: int = 64,
        widths: Sequence[int] = (32, 64, 96, 128),
        fused_width: int = 96,
        motion_width: int = 64,
        diameter: float = 0.56,
        fps_range: Sequence[float] = (8.0, 24.0),
    ) -> None:
        super().__init__()
        if size % 16:
            raise ValueError(f"size is {size}; it must be a multiple of 16")
        self.trunk = FrameTrunk(widths, fused_width)
        self.heat = nn.Conv2d(fused_width, 1, 1)
        self.size_head = nn.Sequential(nn.Linear(fused_width, 32), nn.SiLU(), nn.Linear(32, 1))
        self.subject_head = nn.Sequential(nn.Linear(fused_width, 128), nn.SiLU(), nn.Linear(128, len(subjects)))
        self.scene_head = nn.Sequential(nn.Linear(fused_width, 64), nn.SiLU(), nn.Linear(64, len(scenes)))
        self.motion_head = MotionReader(fused_width, motion_width, len(motions))

    def forward(self, pixels_BTCHW: Tensor) -> JudgeReading:
        """Judge videos [B, T, 3, H, W] in [-1, 1] of any size and any T from 1."""
        if pixels_BTCHW.ndim != 5 or pixels_BTCHW.shape[2] != 3:
            raise ValueError(f"the pixels have shape {tuple(pixels_BTCHW.shape)}; the judge expects [B, T, 3, H, W]")
        batch, frames = pixels_BTCHW.shape[:2]
        frames_FCHW = fit(pixels_BTCHW.flatten(0, 1), self.config.size)
        fused_FDhw = self.trunk(frames_FCHW.contiguous(memory_format=torch.channels_last))
        # In float32: half precision would round positions to whole pixels.
        heat_Fhw = self.heat(fused_FDhw).squeeze(1).float()
        weights_Fhw = heat_Fhw.flatten(1).softmax(dim=1).view_as(heat_Fhw)
        look_FD = torch.einsum("fdhw,fhw->fd", fused_FDhw, weights_Fhw.to(fused_FDhw.dtype))
        everywhere_FD = fused_FDhw.mean(dim=(2, 3))

        def per_video(x: Tensor) -> Tensor:
            return x.unflatten(0, (batch, frames))

        centers_BT2 = per_video(expected_place(weights_Fhw))
        log_size_BT = per_video(self.size_head(look_FD).squeeze(-1))
        look_BTD = per_video(look_FD)
        return JudgeReading(
            subject_logits=per_video(self.subject_head(look_FD)).mean(dim=1),
            motion_logits=self.motion_head(centers_BT2, log_size_BT, look_BTD),
            scene_logits=per_video(self.scene_head(everywhere_FD)).mean(dim=1),
            centers=centers_BT2,
            log_size=log_size_BT,
            heat_logits=per_video(heat_Fhw),
            features=torch.cat((look_BTD, per_video(everywhere_FD)), dim=-1),
        )


@torch.no_grad()
def named_subjects(judge: VideoJudge, pixels_BTCHW: Tensor) -> list[str]:
    """Return the subject that a judge sees in each video or still [B, T, 3, H, W] in [-1, 1]."""
    logits = judge(pixels_BTCHW).subject_logits
    return [judge.config.subjects[index] for index in logits.argmax(dim=1).tolist()]


def fit(frames_BCHW: Tensor, size: int) -> Tensor:
    """Resize frames to ``size`` x ``size`` with anti-aliasing; return frames of that size unchanged."""
    if frames_BCHW.shape[-2:] == (size, size):
        return frames_BCHW
    return functional.interpolate(frames_BCHW, (size, size), mode="bilinear", antialias=True)


def expected_place(weights_Bhw: Tensor) -> Tensor:
    """Return the mean position [B, 2] (x, y; -1 to 1) under weights [B, h, w] that sum to 1 (a soft argmax)."""
    x = (weights_Bhw.sum(dim=1) * cell_middles(weights_Bhw.shape[2], weights_Bhw)).sum(dim=1)
    y = (weights_Bhw.sum(dim=2) * cell_middles(weights_Bhw.shape[1], weights_Bhw)).sum(dim=1)
    return torch.stack((x, y), dim=-1)


def heat_target(centers_BT2: Tensor, height: int, width: int) -> Tensor:
    """Return weights [B, T, h, w] that sum to 1: a Gaussian one cell wide at each centre, clamped to the frame."""
    inside_BT2 = centers_BT2.clamp(-1.0, 1.0)
    x_BTw = (cell_middles(width, centers_BT2) - inside_BT2[..., :1]) * (width / 2.0)
    y_BTh = (cell_middles(height, centers_BT2) - inside_BT2[..., 1:]) * (height / 2.0)
    return torch.einsum("bth,btw->bthw", (-0.5 * y_BTh**2).softmax(-1), (-0.5 * x_BTw**2).softmax(-1))


def judge_loss(judge: nn.Module, pixels: Tensor, labels: JudgeLabels) -> tuple[Tensor, dict[str, float]]:
    """Compute the judge's loss and metrics on labelled clips.

    Args:
        judge: a ``VideoJudge`` (or a wrapper of one).
        pixels: [B, T, 3, H, W] in [-1, 1].
        labels: their ground truth.

    Returns:
        The summed loss (cross-entropies of subject, motion, scene and heat map; absolute errors of centre and
        log size) and the metrics: accuracies in [0, 1], mean errors of centre and log size.
    """
    reading: JudgeReading = judge(pixels)
    has_motion = labels.motion != IGNORED
    motion_losses = functional.cross_entropy(
        reading.motion_logits, labels.motion, reduction="sum", ignore_index=IGNORED
    )
    subject_loss = functional.cross_entropy(reading.subject_logits, labels.subject)
    motion_loss = motion_losses / has_motion.sum().clamp(min=1)
    scene_loss = functional.cross_entropy(reading.scene_logits, labels.scene)
    heat_loss = _heat_loss(reading.heat_logits, labels.centers)
    center_loss = (reading.centers - labels.centers.clamp(-1.0, 1.0)).abs().mean()
    size_loss = (reading.log_size - labels.log_size).abs().mean()
    # The heat map counts half, because its target is wider than the sprite's true position. Centre errors are small
    # numbers, so they count four times.
    loss = subject_loss + motion_loss + scene_loss + 0.5 * heat_loss + 4.0 * center_loss + size_loss
    metrics = {
        "subject_accuracy": _accuracy(reading.subject_logits, labels.subject),
        "motion_accuracy": _accuracy(reading.motion_logits, labels.motion),
        "scene_accuracy": _accuracy(reading.scene_logits, labels.scene),
        "center_error": float((reading.centers - labels.centers).detach().norm(dim=-1).mean()),
        "size_error": float(size_loss.detach()),
    }
    return loss, metrics


def _heat_loss(heat_logits_BThw: Tensor, centers_BT2: Tensor) -> Tensor:
    """KL divergence between the Gaussian around the true centre and the heat map."""
    height, width = heat_logits_BThw.shape[-2:]
    target_FN = heat_target(centers_BT2, height, width).flatten(0, 1).flatten(1)
    return functional.kl_div(
        heat_logits_BThw.flatten(0, 1).flatten(1).log_softmax(-1), target_FN, reduction="batchmean"
    )


def _accuracy(logits_BC: Tensor, labels_B: Tensor) -> float:
    """Share of correct predictions among the labels that are not ``IGNORED``; NaN if there are none."""
    counted = labels_B != IGNORED
    if not bool(counted.any()):
        return math.nan
    return float((logits_BC.argmax(dim=1) == labels_B)[counted].float().mean())
