"""Options that diffusers offers for its networks: adapted to ours, or refused.

diffusers walks through a network for parts that support an option, and an option that no part supports silently does
nothing. Here each such option raises NotImplementedError with the reason.
"""

from __future__ import annotations

from typing import Any

import torch

from videocrafter.models.attention import (
    DualCrossAttention,
    RelativeTemporalAttention,
    SelfAttention,
    TemporalAttention,
)
from videocrafter.models.attention_backends import NATIVE, check_backend

_SDPA = (
    "attention is computed by torch's scaled_dot_product_attention, which selects a flash or memory-efficient kernel"
    " by itself; for a kernel of another package, use set_attention_backend"
)

_BLOCK_SHAPES = 64
"""Shapes for which a kind of block may be compiled: levels of the network, times batch sizes, times frame sizes."""


class NetworkOptions:
    """Mixin for a `ModelMixin`; list it first."""

    def enable_layerwise_casting(
        self,
        storage_dtype: torch.dtype = torch.float8_e4m3fn,
        compute_dtype: torch.dtype | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Store the weights in `storage_dtype` and compute in `compute_dtype`; arguments as in diffusers.

        Embeddings, norms, and the input and output convolutions are stored in `compute_dtype`, which diffusers
        expects them to have already.
        """
        if compute_dtype is not None:
            self.to(dtype=compute_dtype)  # type: ignore[attr-defined]
        super().enable_layerwise_casting(storage_dtype, compute_dtype, *args, **kwargs)  # type: ignore[misc]

    def compile_repeated_blocks(self, *args: Any, **kwargs: Any) -> None:
        """Compile each kind of transformer block; arguments as in diffusers.

        A block is compiled for every width and number of rows that it meets, more often than torch allows by default.
        """
        limit = torch._dynamo.config
        limit.recompile_limit = max(limit.recompile_limit, _BLOCK_SHAPES)
        super().compile_repeated_blocks(*args, **kwargs)  # type: ignore[misc]

    def set_attention_backend(self, backend: str) -> None:
        """Compute attention with a backend of diffusers' registry, such as "flash" or "sage".

        "native" leaves the choice to torch. Temporal attention with relative positions needs the attention weights,
        which no backend returns, so it always stays native.

        Raises:
            ValueError: the backend is unknown.
            NotImplementedError: the network's head widths, dtype or device do not allow it.
            RuntimeError: its package is not installed.
        """
        layers = attention_layers(self)
        if backend.lower() == NATIVE:
            name = None
        elif not layers:
            _refuse(f"attention backend {backend!r}", _SDPA)
        else:
            name = check_backend(backend, {head_dim(layer) for layer in layers}, self.dtype, self.device)  # type: ignore[attr-defined]
        for layer in layers:
            layer.backend = name

    def reset_attention_backend(self) -> None:
        """Leave the choice of the kernel to torch again."""
        self.set_attention_backend(NATIVE)

    def set_attention_slice(self, slice_size: str | int | None) -> None:
        """Accept None only, which disables slicing."""
        if slice_size is not None:
            _refuse("attention slicing", _SDPA)

    def set_use_memory_efficient_attention_xformers(self, valid: bool, attention_op: Any = None) -> None:
        """Accept False only."""
        if valid:
            _refuse("attention by xFormers", _SDPA)

    def set_use_npu_flash_attention(self, valid: bool) -> None:
        """Accept False only."""
        if valid:
            _refuse("flash attention for NPUs", _SDPA)

    def set_use_xla_flash_attention(self, use_xla_flash_attention: bool, *args: Any, **kwargs: Any) -> None:
        """Accept False only."""
        if use_xla_flash_attention:
            _refuse("flash attention for XLA", _SDPA)

    def enable_forward_chunking(self, *args: Any, **kwargs: Any) -> None:
        """Refuse."""
        _refuse("forward chunking", "generate fewer videos or frames at once to save memory")

    def enable_freeu(self, *args: Any, **kwargs: Any) -> None:
        """Refuse."""
        _refuse("FreeU", "its scales are tuned for image networks; use guidance_rescale against over-saturation")

    def fuse_qkv_projections(self) -> None:
        """Refuse."""
        _refuse("fusing the projections of query, key and value", "compile_repeated_blocks() speeds attention up")


def attention_layers(network: Any) -> list[Any]:
    """Return the layers of a network whose attention can be computed by a backend."""
    return [
        layer
        for layer in network.modules()
        if isinstance(layer, (SelfAttention, DualCrossAttention, TemporalAttention))
        and not isinstance(layer, RelativeTemporalAttention)
    ]


def head_dim(layer: Any) -> int:
    """Return the width of an attention layer's heads."""
    return int(layer.to_q.out_features) // int(layer.heads)


def _refuse(what: str, reason: str) -> None:
    raise NotImplementedError(f"{what} is not supported: {reason}")
