"""Find weights that are NaN or infinite."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def count_nonfinite(tensor: Tensor) -> int:
    """Return how many values are NaN or infinite; 0 for integers and for tensors without data."""
    if not tensor.is_floating_point() or tensor.is_meta or tensor.numel() == 0:
        return 0
    try:
        # One pass without a copy, several times faster than `isfinite`.
        if all(math.isfinite(bound) for bound in torch.aminmax(tensor.detach())):
            return 0
    except (RuntimeError, NotImplementedError):
        # Eight-bit types have no minimum.
        tensor = tensor.detach().float()
    return int((~torch.isfinite(tensor)).sum())


def describe_nonfinite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """Return a phrase that counts the tensors with NaN or infinity and names the first; None if all are finite."""
    counts = {name: count for name, tensor in tensors if (count := count_nonfinite(tensor))}
    if not counts:
        return None
    first, count = next(iter(counts.items()))
    in_all = f" ({sum(counts.values()):,} in {len(counts)} tensors)" if len(counts) > 1 else ""
    return f"{first!r} has {count:,} values that are NaN or infinite{in_all}"
