"""What the residual blocks are told: the timestep, the motion speed and, in the miniature, frame and text.

Shape suffixes: B batch, T frames, N = B*T frames folded into the batch, L text tokens, D width, H W latent
size.
"""

import math

import torch
from torch import Tensor, nn


def sinusoid(values: Tensor, width: int, max_period: float = 10_000.0) -> Tensor:
    """Cosines, then sines, of `values` at geometrically spaced frequencies (DDPM's timestep features).

    Args:
        values: any shape, float or int; timesteps in steps, fps in frames per second, frames by index.
        width: number of features; an odd one leaves the last feature zero.

    Returns:
        float32 tensor of shape `values.shape + (width,)`.
    """
    half = width // 2
    frequencies = torch.exp(
        torch.arange(half, device=values.device, dtype=torch.float32) * (-math.log(max_period) / half)
    )
    angles = values.float()[..., None] * frequencies
    features = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return nn.functional.pad(features, (0, width % 2))


class SinusoidalEmbedding(nn.Module):
    """A number as a vector: sinusoid, then a two-layer MLP. Serves timestep and fps alike (paper §3.1)."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.features = features
        self.linear_1 = nn.Linear(features, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, values_B: Tensor) -> Tensor:
        """Maps `[B]` numbers to `[B, width]`."""
        features = sinusoid(values_B, self.features).to(self.linear_1.weight.dtype)
        return self.linear_2(nn.functional.silu(self.linear_1(features)))


class FrameTextEmbedding(nn.Module):
    """One vector per frame that depends on what the text says *and* on which frame it is (not in the paper).

    Where a thing is, is a product of direction, time and place, and a small network does not find a product of
    three factors by gradient descent. So "direction x time" is handed to it ready made: features of the frame's
    place in time are multiplied by features of the text, summed over its tokens. The sum, not the mean: a mean
    would dilute one word by the caption's length.
    """

    def __init__(self, features: int, text_width: int, width: int) -> None:
        super().__init__()
        self.features = features
        self.time_in = nn.Linear(2 * features, width)
        self.text_norm = nn.LayerNorm(text_width)
        self.text_in = nn.Linear(text_width, width)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, num_frames: int, fps_B: Tensor, text_BLD: Tensor) -> Tensor:
        """Returns `[B, T, width]`."""
        # Frames count from the middle of the clip in steps of half a radian: the slowest sinusoids are almost
        # linear in time, the fastest tell neighbours apart. log fps spans the usual range 4 ... 32 evenly.
        frames_T = (torch.arange(num_frames, device=text_BLD.device) - (num_frames - 1) / 2) * 0.5
        frames_BTF = sinusoid(frames_T, self.features, max_period=30.0)[None].expand(len(fps_B), -1, -1)
        fps_BF = sinusoid(fps_B.float().log() * 2.0, self.features, max_period=30.0)
        time_BTF = torch.cat([frames_BTF, fps_BF[:, None].expand_as(frames_BTF)], dim=-1)
        time_BTD = self.time_in(time_BTF.to(self.time_in.weight.dtype))
        text_BD = self.text_in(self.text_norm(text_BLD.sum(dim=1)))
        hidden_BTD = nn.functional.silu(self.hidden(time_BTD * text_BD[:, None]))
        return self.out(hidden_BTD)


class PlaceEmbedding(nn.Module):
    """Tells each latent pixel its place, and lets each frame's embedding draw where things are (not in the paper).

    The embedding weighs a few smooth waves over the frame, which sum up to maps. With what `FrameTextEmbedding` puts
    into the embedding, "direction x time x place" is a linear function from the first step of training on.
    Coordinates run from -1 to 1 at every resolution, so weights learned at a low one mean the same at a higher one.
    """

    num_maps = 16
    num_waves = 25

    def __init__(self, channels: int, embedding_dim: int) -> None:
        super().__init__()
        self.static = nn.Linear(self.num_waves, channels, bias=False)
        self.to_waves = nn.Linear(embedding_dim, self.num_waves * self.num_maps)
        self.maps_in = nn.Conv2d(self.num_maps, channels, 1)

    def forward(self, x_NCHW: Tensor, embedding_ND: Tensor) -> Tensor:
        """Returns `x` plus the embedding of its places, same shape."""
        waves_KHW = _waves(x_NCHW.shape[-2], x_NCHW.shape[-1], x_NCHW.device).to(self.static.weight.dtype)
        static_CHW = torch.einsum("ck,khw->chw", self.static.weight, waves_KHW)
        weights_NMK = self.to_waves(nn.functional.silu(embedding_ND)).unflatten(1, (self.num_maps, -1))
        maps_NMHW = (weights_NMK @ waves_KHW.flatten(1)).unflatten(2, waves_KHW.shape[1:])
        return x_NCHW + self.maps_in(maps_NMHW) + static_CHW


def _waves(height: int, width: int, device: torch.device) -> Tensor:
    """Products of one wave down and one wave across the frame, `[25, H, W]`."""
    y_H = (torch.arange(height, device=device) + 0.5) * (2 / height) - 1
    x_W = (torch.arange(width, device=device) + 0.5) * (2 / width) - 1
    return (_axis_waves(y_H)[:, None, :, None] * _axis_waves(x_W)[None, :, None, :]).flatten(0, 1)


def _axis_waves(place_S: Tensor) -> Tensor:
    """Along one axis: a constant, the coordinate, and waves of half a period and of one period, `[5, S]`."""
    waves = [torch.ones_like(place_S), place_S, (math.pi / 2 * place_S).cos()]
    return torch.stack([*waves, (math.pi * place_S).sin(), (math.pi * place_S).cos()])
