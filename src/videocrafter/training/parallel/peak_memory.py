"""Peak memory of training."""

from __future__ import annotations

import sys

import torch


def peak_memory(device: torch.device) -> int:
    """Return this process's peak memory in bytes, on the device or in main memory on a CPU; 0 if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
