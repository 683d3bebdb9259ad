"""The branches of guidance on several devices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from videocrafter.pipelines.parallel.group import Group


class BranchSplit:
    """Same call as `VideoUNet`; each process computes its share of the rows, and all get all of them.

    Rows are branches times videos. A call whose rows cannot be shared equally, such as a step without guidance, is
    computed by every process for itself.

    Args:
        unet: VideoUNet, or anything with the same call.
        group: the processes, which make the same calls.
    """

    def __init__(self, unet: Any, group: Group) -> None:
        self.unet = unet
        self.group = group

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        fps: Tensor | None = None,
        image: Tensor | None = None,
        *others: Any,
        **options: Any,
    ) -> Tensor:
        """Predict [B, C, T, H, W] from noisy latents of that shape; arguments as for `VideoUNet`."""
        rows, count = len(sample), self.group.count
        if rows % count:
            return self.unet(sample, timestep, text, fps, image, *others, **options)
        share = slice(self.group.index * rows // count, (self.group.index + 1) * rows // count)
        given = (None if one is None else one[share] for one in (sample, timestep, text, fps, image))
        return torch.cat(self.group.gather(self.unet(*given, *others, **options)))
