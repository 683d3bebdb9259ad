"""Offloading of activations between forward and backward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def activations_kept(device: torch.device, *, offload: bool) -> AbstractContextManager[object]:
    """Return a context for the forward pass that keeps saved activations on the device or in main memory.

    On a CPU `offload` has no effect.
    """
    if not offload or device.type == "cpu":
        return nullcontext()
    return torch.autograd.graph.save_on_cpu(pin_memory=device.type == "cuda")
