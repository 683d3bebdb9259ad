"""The judge: a small supervised classifier that says what a sprite-world video shows.

It shares nothing with the generator (no CLIP, no VAE), sees only pixels, and is never told a caption or an
fps, so its verdict is independent of the model it examines. Each frame goes through a small convolutional
pyramid; a heat map finds the sprite, so that the subject is read at the sprite and the scene everywhere;
convolutions over time read the motion from how place, size and look of the sprite change.

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
"""Motion label of a clip whose motion cannot be asked for, such as a single image."""


@dataclass(frozen=True, kw_only=True)
class JudgeReading:
    """What the judge reads from B videos of T frames.

    Attributes:
        subject_logits: [B, number of subjects].
        motion_logits: [B, number of motions]; without meaning for T = 1.
        scene_logits: [B, number of scenes].
        centers: [B, T, 2] sprite centre (x, y) in half-widths of the frame, (0, 0) the middle, y downwards.
        log_size: [B, T] natural logarithm of the sprite's diameter in widths of the frame.
        heat_logits: [B, T, h, w] where the sprite is, before the softmax over h and w.
        features: [B, T, D] what each frame shows (at the sprite, then everywhere), to compare frames.
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
    """The truth about B clips: class indices [B] (motion may be ``IGNORED``), and for each frame the sprite.

    ``centers`` [B, T, 2] and ``log_size`` [B, T] are in the units of ``JudgeReading``.
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
        """[B, C, H, W] -> the same shape."""
        out: Tensor = x_BCHW + self.conv(functional.silu(self.norm(x_BCHW)))
        return out


class FrameTrunk(nn.Module):
    """Frames -> one map at a quarter of the resolution that also knows what the coarser levels saw."""

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
        """[B, 3, H, W] in [-1, 1] -> [B, D, H / 4, W / 4]."""
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
    """Two channels that hold x and y of each pixel's middle, from -1 to 1: [B, 2, H, W]."""
    batch, _, height, width = like_BCHW.shape
    y, x = torch.meshgrid(cell_middles(height, like_BCHW), cell_middles(width, like_BCHW), indexing="ij")
    return torch.stack((x, y)).expand(batch, 2, height, width)


def cell_middles(count: int, like: Tensor) -> Tensor:
    """[count] middles of equal cells that tile -1 to 1, with ``like``'s dtype and device."""
    return (torch.arange(count, dtype=like.dtype, device=like.device) + 0.5) * (2.0 / count) - 1.0


class MotionReader(nn.Module):
    """Place, size and look of the sprite over time -> motion logits."""

    def __init__(self, look_width: int, width: int, num_motions: int) -> None:
        super().__init__()
        self.look = nn.Linear(look_width, 32)
        self.conv1 = nn.Conv1d(2 * (32 + 3), width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1)
        self.out = nn.Sequential(nn.Linear(3 * width, width), nn.SiLU(), nn.Linear(width, num_motions))

    def forward(self, centers_BT2: Tensor, log_size_BT: Tensor, look_BTD: Tensor) -> Tensor:
        """[B, T, 2], [B, T], [B, T, D] -> [B, number of motions]; T may be any number from 1 up."""
        track_BTD = torch.cat((4.0 * centers_BT2, 4.0 * log_size_BT[..., None], self.look(look_BTD)), dim=-1)
        # Where it is on average says nothing about how it moves; the path relative to its middle does, and
        # the steps from frame to frame tell a bounce or a spin from a straight line.
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
        size: side in pixels to which every frame is resized before it is looked at.
        widths: channels of the four levels of the trunk (at 1/2, 1/4, 1/8, 1/16 of ``size``).
        fused_width: channels of the map on which the heads work.
        motion_width: channels of the convolutions over time.
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
    ) -> None:
        super().__init__()
        if size % 16:
            raise ValueError(f"the judge's size is {size}; give a multiple of 16")
        self.trunk = FrameTrunk(widths, fused_width)
        self.heat = nn.Conv2d(fused_width, 1, 1)
        self.size_head = nn.Sequential(nn.Linear(fused_width, 32), nn.SiLU(), nn.Linear(32, 1))
        self.subject_head = nn.Sequential(nn.Linear(fused_width, 128), nn.SiLU(), nn.Linear(128, len(subjects)))
        self.scene_head = nn.Sequential(nn.Linear(fused_width, 64), nn.SiLU(), nn.Linear(64, len(scenes)))
        self.motion_head = MotionReader(fused_width, motion_width, len(motions))

    def forward(self, pixels_BTCHW: Tensor) -> JudgeReading:
        """Read videos [B, T, 3, H, W] in [-1, 1] of any size and any T from 1 up."""
        if pixels_BTCHW.ndim != 5 or pixels_BTCHW.shape[2] != 3:
            raise ValueError(
                f"the judge was given pixels of shape {tuple(pixels_BTCHW.shape)}; it takes [B, T, 3, H, W]"
            )
        batch, frames = pixels_BTCHW.shape[:2]
        frames_FCHW = fit(pixels_BTCHW.flatten(0, 1), self.config.size)
        fused_FDhw = self.trunk(frames_FCHW.contiguous(memory_format=torch.channels_last))
        # Places are read off in full precision: half of it would round them to whole pixels.
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


def fit(frames_BCHW: Tensor, size: int) -> Tensor:
    """Resize frames to ``size`` x ``size`` (anti-aliased), or return them as they are if they fit."""
    if frames_BCHW.shape[-2:] == (size, size):
        return frames_BCHW
    return functional.interpolate(frames_BCHW, (size, size), mode="bilinear", antialias=True)


def expected_place(weights_Bhw: Tensor) -> Tensor:
    """The mean place [B, 2] (x, y; -1 to 1) under weights [B, h, w] that sum to 1 (a soft argmax)."""
    x = (weights_Bhw.sum(dim=1) * cell_middles(weights_Bhw.shape[2], weights_Bhw)).sum(dim=1)
    y = (weights_Bhw.sum(dim=2) * cell_middles(weights_Bhw.shape[1], weights_Bhw)).sum(dim=1)
    return torch.stack((x, y), dim=-1)


def heat_target(centers_BT2: Tensor, height: int, width: int) -> Tensor:
    """Weights [B, T, h, w] that sum to 1: a bell one cell wide around each centre (kept inside the frame)."""
    inside_BT2 = centers_BT2.clamp(-1.0, 1.0)
    x_BTw = (cell_middles(width, centers_BT2) - inside_BT2[..., :1]) * (width / 2.0)
    y_BTh = (cell_middles(height, centers_BT2) - inside_BT2[..., 1:]) * (height / 2.0)
    return torch.einsum("bth,btw->bthw", (-0.5 * y_BTh**2).softmax(-1), (-0.5 * x_BTw**2).softmax(-1))


def judge_loss(judge: nn.Module, pixels: Tensor, labels: JudgeLabels) -> tuple[Tensor, dict[str, float]]:
    """Loss of the judge on labelled clips, and how well it read them.

    Args:
        judge: a ``VideoJudge`` (or a wrapper of one).
        pixels: [B, T, 3, H, W] in [-1, 1].
        labels: the truth about them.

    Returns:
        The summed loss (cross-entropies of subject, motion, scene and heat map; absolute errors of centre and
        log size) and the metrics: the accuracies in [0, 1], ``center_error`` in half-widths.
    """
    reading: JudgeReading = judge(pixels)
    asked = labels.motion != IGNORED
    motion_losses = functional.cross_entropy(
        reading.motion_logits, labels.motion, reduction="sum", ignore_index=IGNORED
    )
    subject_loss = functional.cross_entropy(reading.subject_logits, labels.subject)
    motion_loss = motion_losses / asked.sum().clamp(min=1)
    scene_loss = functional.cross_entropy(reading.scene_logits, labels.scene)
    heat_loss = _heat_loss(reading.heat_logits, labels.centers)
    center_loss = (reading.centers - labels.centers.clamp(-1.0, 1.0)).abs().mean()
    size_loss = (reading.log_size - labels.log_size).abs().mean()
    # The heat map is an aid (its target is wider than the truth), the centre's error is in small units.
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
    """How far the heat map is from the bell around the true centre (KL divergence, 0 at best)."""
    height, width = heat_logits_BThw.shape[-2:]
    target_FN = heat_target(centers_BT2, height, width).flatten(0, 1).flatten(1)
    return functional.kl_div(
        heat_logits_BThw.flatten(0, 1).flatten(1).log_softmax(-1), target_FN, reduction="batchmean"
    )


def _accuracy(logits_BC: Tensor, labels_B: Tensor) -> float:
    """Share of right answers among the labels that count; NaN if none counts."""
    asked = labels_B != IGNORED
    if not bool(asked.any()):
        return math.nan
    return float((logits_BC.argmax(dim=1) == labels_B)[asked].float().mean())
