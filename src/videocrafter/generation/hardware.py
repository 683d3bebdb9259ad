"""Devices and dtypes by their names."""

from __future__ import annotations

import torch

from videocrafter.checkpoints.dtype_names import parse_dtype


def choose_device(name: str) -> torch.device:
    """Return the device with this name; "auto" selects an accelerator if one is available.

    Raises ValueError for an unavailable device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"the device {name!r} is not available here; set `device` to cpu or auto") from error
    return device


def limit_threads(count: int) -> None:
    """Let this process compute on at most `count` threads of the processor."""
    torch.set_num_threads(count)


def choose_dtype(name: str | None) -> torch.dtype:
    """Return the dtype with this name; None means float32. Raises ValueError for an unknown name."""
    return torch.float32 if name is None else parse_dtype(name)
