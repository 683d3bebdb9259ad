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

    Where a thing is, is a product of direction, time and place. A small network does not find a product of
    three factors by gradient descent, so this MLP hands it "direction x time" ready made: it sees the frame's
    index, the fps, and the text summed over its tokens. The sum, not the mean: a mean would dilute one word
    by the caption's length.
    """

    def __init__(self, features: int, text_width: int, width: int) -> None:
        super().__init__()
        self.features = features
        self.frame_in = nn.Linear(2 * features, width)
        self.text_in = nn.Linear(text_width, width, bias=False)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, num_frames: int, fps_B: Tensor, text_BLD: Tensor) -> Tensor:
        """Returns `[B, T, width]`."""
        # Frames count from the middle of the clip and by half a radian, so that the slowest sinusoids are
        # almost linear in time and the fastest tell neighbours apart.
        frames_T = (torch.arange(num_frames, device=text_BLD.device) - (num_frames - 1) / 2) * 0.5
        frame_features = sinusoid(frames_T, self.features, max_period=30.0)
        # log fps spans the usual range 4 ... 32 evenly
        fps_features = sinusoid(fps_B.float().log() * 2.0, self.features, max_period=30.0)
        time_BTF = torch.cat(
            [
                frame_features[None].expand(len(fps_B), -1, -1),
                fps_features[:, None].expand(-1, num_frames, -1),
            ],
            dim=-1,
        ).to(self.frame_in.weight.dtype)
        text_B1D = self.text_in(text_BLD.sum(dim=1))[:, None]
        hidden = nn.functional.silu(self.frame_in(time_BTF) + text_B1D)
        hidden = nn.functional.silu(self.hidden(hidden))
        return self.out(hidden)


class PlaceEmbedding(nn.Module):
    """Adds to each latent pixel what place it has in the frame (not in the paper).

    The coordinates run from -1 to 1 whatever the resolution, so that weights learned at a low resolution mean
    the same at a higher one.
    """

    octaves = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 + 4 * self.octaves, channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Returns `x` plus the embedding of its places, same shape."""
        height, width = x_NCHW.shape[-2:]
        y_H = (torch.arange(height, device=x_NCHW.device) + 0.5) * (2 / height) - 1
        x_W = (torch.arange(width, device=x_NCHW.device) + 0.5) * (2 / width) - 1
        places_HW2 = torch.stack(torch.meshgrid(y_H, x_W, indexing="ij"), dim=-1)
        waves = [places_HW2 * (math.pi * 2**octave / 2) for octave in range(self.octaves)]
        features = torch.cat(
            [places_HW2, *(wave.sin() for wave in waves), *(wave.cos() for wave in waves)], dim=-1
        )
        places_HWC = self.linear(features.to(self.linear.weight.dtype))
        return x_NCHW + places_HWC.permute(2, 0, 1)
