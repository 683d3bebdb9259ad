"""Group normalisation that avoids a slow kernel on CPUs."""

import torch
from torch import Tensor, nn

FEW_CHANNELS = 8
"""Channels per group up to which the copies pay; with 10, as in the official networks, they do not."""


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm`, with contiguous tensors where PyTorch's channels-last kernel is slow.

    This kernel takes up to four times as long as both copies and the other kernel: on CPUs, in 16 bits, and with few
    channels per group, as in the miniature.
    """

    def forward(self, x: Tensor) -> Tensor:
        few = self.num_channels // self.num_groups <= FEW_CHANNELS
        if few and x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float16):
            return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
        return super().forward(x)
