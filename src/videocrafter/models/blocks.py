"""Convolutional blocks of the video U-Net, and the layer that every level repeats.

Shape suffixes: B batch, T frames, N = B*T frames folded into the batch, C channels, H W size, D embedding
width, P = H*W positions. Frames stay folded and `channels_last`, so that both the token view and the
view with a frame axis need no copy.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from videocrafter.models.attention import SpatialTransformer, TemporalTransformer, repeat_branches, zero_initialised
from videocrafter.models.group_norm import GroupNorm


class BlockConditions(NamedTuple):
    """Inputs that every layer of one forward pass shares.

    A tuple, because the hooks that offload a network or split it over devices move the tensors of tuples.

    embedding_ND: timestep (+ fps, + frame and text) embedding of each frame. Features with fewer rows are what all
        branches of guidance share; they are repeated where the text comes in.
    text_BLD: text tokens of each clip.
    image_BMD: image tokens of each clip; None skips the image branch.
    image_scale: weight of the image branch's output.
    temporal: run the temporal layers; off for still images unless the model's config says otherwise.
    """

    embedding_ND: Tensor
    text_BLD: Tensor
    image_BMD: Tensor | None
    image_scale: float
    num_frames: int
    temporal: bool


class TemporalConvolution(nn.Module):
    """Residual stack of four convolutions, each over three adjacent frames; the last is zero-initialised."""

    def __init__(self, channels: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(GroupNorm(groups, channels) for _ in range(4))
        # A (3, 1) kernel over (frames, positions) has the same weights as a 3-D convolution of size (3, 1, 1).
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, (3, 1), padding=(1, 0)) for _ in range(4))
        self.dropout = nn.Dropout(dropout)
        zero_initialised(self.convs[-1])

    def forward(self, x_NCHW: Tensor, num_frames: int) -> Tensor:
        channels, height, width = x_NCHW.shape[1:]
        clip_BCTP = x_NCHW.permute(0, 2, 3, 1).reshape(-1, num_frames, height * width, channels).permute(0, 3, 1, 2)
        hidden = clip_BCTP
        for index, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            hidden = silu(norm(hidden))
            hidden = conv(hidden if index == 0 else self.dropout(hidden))
        out_BTPC = (clip_BCTP + hidden).permute(0, 2, 3, 1)
        return out_BTPC.reshape(-1, height, width, channels).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with the embedding between them, then an optional temporal convolution.

    With `scale_shift`, the embedding scales and shifts the normalised features instead of being added to them.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_dim: int,
        *,
        groups: int,
        dropout: float,
        scale_shift: bool,
        temporal_convolution: bool,
        temporal_dropout: float,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.norm1 = GroupNorm(groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.embedding = nn.Linear(embedding_dim, 2 * out_channels if scale_shift else out_channels)
        self.norm2 = GroupNorm(groups, out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zero_initialised(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.temporal = TemporalConvolution(out_channels, groups, temporal_dropout) if temporal_convolution else None

    def forward(self, x_NCHW: Tensor, conditions: BlockConditions) -> Tensor:
        hidden = self.conv1(silu(self.norm1(x_NCHW)))
        embedding = self.embedding(silu(conditions.embedding_ND[: len(x_NCHW)]))[:, :, None, None]
        if self.scale_shift:
            scale, shift = embedding.chunk(2, dim=1)
            hidden = torch.addcmul(shift, self.norm2(hidden), 1 + scale)
        else:
            hidden = self.norm2(hidden + embedding)
        hidden = self.skip(x_NCHW) + self.conv2(self.dropout(silu(hidden)))
        if self.temporal is not None and conditions.temporal:
            hidden = self.temporal(hidden, conditions.num_frames)
        return hidden


class VideoLayer(nn.Module):
    """Residual block, spatial transformer, temporal transformer (paper figure 2)."""

    def __init__(
        self,
        residual: ResidualBlock,
        spatial: SpatialTransformer | None,
        temporal: TemporalTransformer | None,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.spatial = spatial
        self.temporal = temporal

    def forward(self, x_NCHW: Tensor, conditions: BlockConditions, skip_NCHW: Tensor | None = None) -> Tensor:
        """Run the layer; on the way up, `skip_NCHW` is the output of a layer on the way down."""
        if skip_NCHW is not None:
            skip_NCHW = repeat_branches(skip_NCHW, len(x_NCHW) // len(skip_NCHW))
            x_NCHW = torch.cat([x_NCHW, skip_NCHW], dim=1)
        x_NCHW = self.residual(x_NCHW, conditions)
        if self.spatial is not None:
            branches = len(conditions.embedding_ND) // len(x_NCHW)
            x_NCHW = self.spatial(x_NCHW, conditions.text_BLD, conditions.image_BMD, conditions.image_scale, branches)
        if self.temporal is not None and conditions.temporal:
            x_NCHW = self.temporal(x_NCHW, conditions.num_frames)
        return x_NCHW


class Downsample(nn.Module):
    """Halve height and width with a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.conv(x_NCHW)


class Upsample(nn.Module):
    """Double height and width with nearest-neighbour upsampling, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.conv(interpolate(x_NCHW, scale_factor=2.0, mode="nearest"))


class DownStage(nn.Module):
    """The layers at one resolution and, unless it is the last, the change to the next resolution."""

    def __init__(self, layers: list[VideoLayer], resample: Downsample | None) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.layers = nn.ModuleList(layers)
        self.resample = resample

    def forward(self, x_NCHW: Tensor, conditions: BlockConditions) -> list[Tensor]:
        """Return the output of every layer and of the resampling; the last is the output of the stage."""
        outputs = []
        for layer in self.layers:
            x_NCHW = run_layer(self, layer, x_NCHW, conditions)
            outputs.append(x_NCHW)
        if self.resample is not None:
            outputs.append(self.resample(x_NCHW))
        return outputs


class UpStage(nn.Module):
    """The layers at one resolution and, unless it is the first, the change to the next resolution."""

    def __init__(self, layers: list[VideoLayer], resample: Upsample | None) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.layers = nn.ModuleList(layers)
        self.resample = resample

    def forward(self, x_NCHW: Tensor, skips_NCHW: Sequence[Tensor], conditions: BlockConditions) -> Tensor:
        """Run the stage; `skips_NCHW` has one output of the way down per layer, the one for the last layer first."""
        for layer, skip_NCHW in zip(self.layers, reversed(skips_NCHW), strict=True):
            x_NCHW = run_layer(self, layer, x_NCHW, conditions, skip_NCHW)
        return x_NCHW if self.resample is None else self.resample(x_NCHW)


def run_layer(owner: Any, layer: nn.Module, *inputs: Any) -> Tensor:
    """Call a layer, with gradient checkpointing if `enable_gradient_checkpointing` has enabled it in its owner."""
    if owner.gradient_checkpointing and torch.is_grad_enabled():
        return owner._gradient_checkpointing_func(layer, *inputs)
    return layer(*inputs)
