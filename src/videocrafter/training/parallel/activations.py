"""Where activations wait for the backward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def activations_kept(device: torch.device, *, offload: bool) -> AbstractContextManager[object]:
    """Context of a forward pass: what it keeps for the backward pass stays on the device or goes to main memory.

    On a CPU there is nowhere else to go, and `offload` changes nothing.
    """
    if not offload or device.type == "cpu":
        return nullcontext()
    return torch.autograd.graph.save_on_cpu(pin_memory=device.type == "cuda")
