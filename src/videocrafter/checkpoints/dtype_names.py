"""Floating-point types of networks by name."""

from __future__ import annotations

import torch

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def parse_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Return a floating-point dtype from itself or its name, such as "bfloat16" or "torch.bfloat16".

    Raises ValueError for an unknown name and for dtypes that networks cannot have.
    """
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        return dtype
    found = _DTYPES.get(dtype.removeprefix("torch.")) if isinstance(dtype, str) else None
    if found is None:
        raise ValueError(f"unknown dtype {dtype!r}; expected one of {', '.join(_DTYPES)}")
    return found
