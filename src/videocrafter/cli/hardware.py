"""Devices and precisions by the names that the command line takes."""

from __future__ import annotations

import torch

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes an accelerator if there is one.

    Raises ValueError for a device that is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"the device {name!r} is not available here; use cpu, or leave --device out") from error
    return device


def choose_dtype(name: str | None) -> torch.dtype:
    """The precision called `name`; None means float32. Raises ValueError for an unknown one."""
    if name is None:
        return torch.float32
    if name not in _DTYPES:
        raise ValueError(f"unknown dtype {name!r}; allowed are {', '.join(_DTYPES)}")
    return _DTYPES[name]
