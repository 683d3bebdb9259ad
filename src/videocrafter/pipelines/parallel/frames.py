"""The frames of one video on several devices (sequence parallelism as in DeepSpeed-Ulysses, arXiv 2309.14509).

Spatial layers see each frame alone, so each process keeps its own frames. Around every temporal layer the processes
exchange frames for positions: there each has all frames of its share of the positions. The group norms of temporal
layers have statistics over the whole clip, so their sums are added over the processes; the result is exact.

Shapes: B clips, T all frames, t frames of a process, N = B*t, P positions, p positions of a process, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.models.attention import TemporalTransformer
from videocrafter.models.blocks import TemporalConvolution
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.parallel.group import Group

_LEAST_FRAMES = 2


def check_frames(frames: int, count: int, *, setting: str = "num_frames") -> None:
    """Raise ValueError, which names the setting, if `count` devices cannot share these frames equally."""
    if frames % count or frames // count < _LEAST_FRAMES:
        raise ValueError(
            f"{setting} is {frames}; to split frames over {count} devices, it must be a multiple of {count} and"
            f" at least {_LEAST_FRAMES * count}"
        )


def check_positions(height: int, width: int, count: int) -> None:
    """Raise ValueError if `count` devices cannot share the positions of a level of the network equally."""
    if height * width % count:
        raise ValueError(
            f"a level of the network has {height} x {width} positions, which {count} devices cannot share equally;"
            " use another number of devices or another size of video"
        )


class FrameSplit:
    """Same call as `VideoUNet`; each process computes its share of the frames, and all get all of them.

    Args:
        unet: the network. Its temporal layers take part in the exchange until `close` is called, so it must not be
            called in any other way.
        group: the processes, which make the same calls.
    """

    takes_branches = True

    def __init__(self, unet: VideoUNet, group: Group) -> None:
        self.unet = unet
        self.group = group
        self._changed: list[nn.Module] = []
        for module in unet.modules():
            if isinstance(module, (TemporalTransformer, TemporalConvolution)):
                self._replace(module, partial(_over_positions, group, module.forward))
                norms = [module.norm] if isinstance(module, TemporalTransformer) else module.norms
                for norm in norms:
                    assert isinstance(norm, nn.GroupNorm)
                    self._replace(norm, partial(_whole_clip_norm, group, norm))
        if unet.frame_text_embedding is not None:
            own = unet.frame_text_embedding
            self._replace(own, partial(_own_frames, group, own.forward))

    def close(self) -> None:
        """Give the network its own layers back."""
        for module in self._changed:
            del module.forward
        self._changed.clear()

    def __call__(self, sample: Tensor, *conditions: Any, **options: Any) -> Tensor:
        """Predict [B, C, T, H, W] from noisy latents of that shape; arguments as for `VideoUNet`.

        Raises ValueError if frames or positions cannot be shared equally.
        """
        count = self.group.count
        check_frames(sample.shape[2], count)
        own = sample.chunk(count, dim=2)[self.group.index]
        return torch.cat(self.group.gather(self.unet(own, *conditions, **options)), dim=2)

    def _replace(self, module: nn.Module, forward: Callable[..., Tensor]) -> None:
        module.forward = forward
        self._changed.append(module)


def _over_positions(group: Group, forward: Callable[..., Tensor], x: Tensor, num_frames: int) -> Tensor:
    """Run a temporal layer on all frames of this process's positions; `x` is `[N, C, H, W]`."""
    count, (channels, height, width) = group.count, x.shape[1:]
    check_positions(height, width, count)
    tokens = x.permute(0, 2, 3, 1).reshape(-1, num_frames, height * width, channels)  # B t P C
    by_process = tokens.unflatten(2, (count, -1)).permute(2, 0, 1, 3, 4)
    clip = group.exchange(by_process).transpose(0, 1).flatten(1, 2)  # B T p C
    total = clip.shape[1]
    out = forward(clip.flatten(0, 1).transpose(1, 2).unsqueeze(-1), total)  # B*T C p 1
    clip = out.squeeze(-1).transpose(1, 2).unflatten(0, (-1, total))
    back = group.exchange(clip.unflatten(1, (count, -1)).transpose(0, 1))
    tokens = back.permute(1, 2, 0, 3, 4).flatten(2, 3)
    return tokens.reshape(-1, height, width, channels).permute(0, 3, 1, 2)


def _whole_clip_norm(group: Group, norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Group norm of `[B, C, T, p]` with statistics over the positions of all processes."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(len(x), norm.num_groups, -1)
    count = wide.shape[-1] * group.count
    centred = wide - group.total(wide.sum(-1, keepdim=True)) / count
    variance = group.total(centred.square().sum(-1, keepdim=True)) / count
    out = (centred * torch.rsqrt(variance + norm.eps)).reshape(x.shape)
    shape = (-1, *[1] * (x.ndim - 2))
    return (out * norm.weight.reshape(shape) + norm.bias.reshape(shape)).to(x.dtype)


def _own_frames(group: Group, forward: Callable[..., Tensor], num_frames: int, *others: Any) -> Tensor:
    """Embed all frames `[B, T, D]` and return those of this process, because the embedding counts frames."""
    return forward(num_frames * group.count, *others).chunk(group.count, dim=1)[group.index]
