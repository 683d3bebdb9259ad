"""Embeddings that condition the residual blocks: timestep, fps and, in the miniature, frame and text.

Shape suffixes: B batch, T frames, N = B*T frames folded into the batch, L text tokens, D width, H W latent
size. Layers are called, and their weights never read: a weight may be offloaded, quantised or adapted by a LoRA.
"""

import math

import torch
from torch import Tensor, nn


def sinusoid(values: Tensor, width: int, max_period: float = 10_000.0) -> Tensor:
    """Return cosines, then sines, of `values` at geometrically spaced frequencies (DDPM's timestep features).

    Args:
        values: any shape, float or int, such as timesteps, frames per second or frame indices.
        width: number of features; if odd, the last feature is zero.

    Returns:
        A float32 tensor of shape `values.shape + (width,)`.
    """
    half = width // 2
    frequencies = torch.exp(
        torch.arange(half, device=values.device, dtype=torch.float32) * (-math.log(max_period) / half)
    )
    angles = values.float()[..., None] * frequencies
    features = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return nn.functional.pad(features, (0, width % 2))


class SinusoidalEmbedding(nn.Module):
    """Sinusoidal features and a two-layer MLP; used for the timestep and for fps (paper §3.1)."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.features = features
        self.linear_1 = nn.Linear(features, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, values_B: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Map `[B]` numbers to `[B, width]`, computed in `dtype`."""
        features = sinusoid(values_B, self.features).to(dtype)
        return self.linear_2(nn.functional.silu(self.linear_1(features)))


class FrameTextEmbedding(nn.Module):
    """Embedding of frame index and text jointly, one vector per frame (not in the paper).

    Where an object appears is a product of direction, time and position, and a small network does not learn a product
    of three factors by gradient descent. This embedding supplies "direction x time": features of the frame's time are
    multiplied by features of the text, summed over its tokens. With a mean, the weight of one word would shrink with
    the caption's length.
    """

    def __init__(self, features: int, text_width: int, width: int) -> None:
        super().__init__()
        self.features = features
        self.time_in = nn.Linear(2 * features, width)
        self.text_norm = nn.LayerNorm(text_width)
        self.text_in = nn.Linear(text_width, width)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, num_frames: int, fps_B: Tensor, text_BLD: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return `[B, T, width]`, computed in `dtype`."""
        # Time is 0 at the middle of the clip and grows by half a radian per frame: the slowest sinusoids are almost
        # linear in time, the fastest separate adjacent frames. log(fps) covers the usual range of 4 to 32 evenly.
        frames_T = (torch.arange(num_frames, device=text_BLD.device) - (num_frames - 1) / 2) * 0.5
        frames_BTF = sinusoid(frames_T, self.features, max_period=30.0)[None].expand(len(fps_B), -1, -1)
        fps_BF = sinusoid(fps_B.float().log() * 2.0, self.features, max_period=30.0)
        time_BTF = torch.cat([frames_BTF, fps_BF[:, None].expand_as(frames_BTF)], dim=-1)
        time_BTD = self.time_in(time_BTF.to(dtype))
        text_BD = self.text_in(self.text_norm(text_BLD.sum(dim=1)))
        hidden_BTD = nn.functional.silu(self.hidden(time_BTD * text_BD[:, None]))
        return self.out(hidden_BTD)


class PlaceEmbedding(nn.Module):
    """Position features for each latent pixel, and maps computed from each frame's embedding (not in the paper).

    Each map is a sum of smooth 2-D waves whose weights are linear in the embedding. Together with
    `FrameTextEmbedding`, this makes "direction x time x position" available as a linear function from the first
    training step. Coordinates run from -1 to 1 at every resolution, so that weights learned at a low resolution carry
    over to a higher one.
    """

    num_maps = 16
    num_waves = 25

    def __init__(self, channels: int, embedding_dim: int) -> None:
        super().__init__()
        self.static = nn.Linear(self.num_waves, channels, bias=False)
        self.to_waves = nn.Linear(embedding_dim, self.num_waves * self.num_maps)
        self.maps_in = nn.Conv2d(self.num_maps, channels, 1)

    def forward(self, x_NCHW: Tensor, embedding_ND: Tensor) -> Tensor:
        """Return `x_NCHW` plus the features and maps, same shape."""
        waves_KHW = _waves(x_NCHW.shape[-2], x_NCHW.shape[-1], x_NCHW.device).to(x_NCHW.dtype)
        static_CHW = self.static(waves_KHW.permute(1, 2, 0)).permute(2, 0, 1)
        weights_NMK = self.to_waves(nn.functional.silu(embedding_ND)).unflatten(1, (self.num_maps, -1))
        maps_NMHW = (weights_NMK @ waves_KHW.flatten(1)).unflatten(2, waves_KHW.shape[1:])
        return x_NCHW + self.maps_in(maps_NMHW) + static_CHW


def _waves(height: int, width: int, device: torch.device) -> Tensor:
    """Products of one vertical and one horizontal wave, `[25, H, W]`."""
    y_H = (torch.arange(height, device=device) + 0.5) * (2 / height) - 1
    x_W = (torch.arange(width, device=device) + 0.5) * (2 / width) - 1
    return (_axis_waves(y_H)[:, None, :, None] * _axis_waves(x_W)[None, :, None, :]).flatten(0, 1)


def _axis_waves(place_S: Tensor) -> Tensor:
    """Waves along one axis: a constant, the coordinate, half a period and one full period, `[5, S]`."""
    waves = [torch.ones_like(place_S), place_S, (math.pi / 2 * place_S).cos()]
    return torch.stack([*waves, (math.pi * place_S).sin(), (math.pi * place_S).cos()])
