"""Attention kernels of other packages, through diffusers' registry: which ones a network can use, and their call."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

NATIVE = "native"
_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class _Limits:
    """Limits of a family of kernels."""

    head_dims: Callable[[int], bool]
    head_dims_in_words: str
    dtypes: Collection[torch.dtype] = _HALF


_FLASH = _Limits(head_dims=lambda dim: dim % 8 == 0 and dim <= 256, head_dims_in_words="multiples of 8 up to 256")
_SAGE = _Limits(head_dims=lambda dim: dim in (64, 96, 128), head_dims_in_words="64, 96 and 128")
_XFORMERS = _Limits(
    head_dims=lambda dim: dim % 8 == 0,
    head_dims_in_words="multiples of 8",
    dtypes=(*_HALF, torch.float32),
)
_LIMITS = {"flash": _FLASH, "aiter": _FLASH, "sage": _SAGE, "xformers": _XFORMERS}
"""Limits by the beginning of a backend's name. torch's own kernels fall back by themselves or raise a clear error."""


def check_backend(name: str, head_dims: Collection[int], dtype: torch.dtype, device: torch.device) -> str:
    """Return a backend's name in diffusers' spelling if attention of these head widths can use it here.

    Raises:
        ValueError: diffusers knows no such backend.
        NotImplementedError: the backend does not accept the network's head widths, dtype or device.
        RuntimeError: its package is not installed; from diffusers.
    """
    # The registry looks for every package of kernels when it is imported, so only those who choose one wait for it.
    from diffusers.models.attention_dispatch import (
        AttentionBackendName,
        _AttentionBackendRegistry,
        _check_attention_backend_requirements,
        _maybe_download_kernel_for_backend,
    )

    known = [one.value for one in AttentionBackendName]
    name = name.lower()
    if name not in known:
        public = ", ".join(one for one in known if not one.startswith("_"))
        raise ValueError(f"attention backend {name!r} is unknown; expected one of {public}")
    limits = next((limits for start, limits in _LIMITS.items() if name.lstrip("_").startswith(start)), None)
    if limits is not None:
        wrong = sorted(dim for dim in head_dims if not limits.head_dims(dim))
        if wrong:
            widths = limits.head_dims_in_words
            _refuse(name, f"its kernels take heads of width {widths}, the network's have {wrong[0]}")
        if dtype not in limits.dtypes:
            names = " or ".join(str(one).removeprefix("torch.") for one in limits.dtypes)
            own = str(dtype).removeprefix("torch.")
            _refuse(name, f"it computes in {names}, the network is {own}; convert it first")
    _check_attention_backend_requirements(AttentionBackendName(name))
    if AttentionBackendName(name) not in _AttentionBackendRegistry._backends:
        _refuse(name, "this version of diffusers does not implement it")
    if limits is not None and device.type != "cuda":
        _refuse(name, f"its kernels need a CUDA device, the network is on {device.type}; move it first")
    _maybe_download_kernel_for_backend(AttentionBackendName(name))
    return name


def attend_with(name: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute attention of `[B, G, S, K]` queries, keys and values with a backend; returns the same shape."""
    from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn

    # diffusers' layout has the sequence before the heads.
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return dispatch_attention_fn(q, k, v, backend=AttentionBackendName(name)).transpose(1, 2)


def _refuse(name: str, reason: str) -> None:
    raise NotImplementedError(f"attention backend {name!r} is not supported here: {reason}")
