"""Options that diffusers offers for its networks: adapted to ours, or refused.

diffusers walks through a network for parts that support an option, and an option that no part supports silently does
nothing. Here each such option raises NotImplementedError with the reason.
"""

from __future__ import annotations

from typing import Any

import torch

_SDPA = (
    "attention is computed by torch's scaled_dot_product_attention, which selects a flash or memory-efficient kernel"
    " by itself; to force one, use torch.nn.attention.sdpa_kernel"
)


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

    def set_attention_backend(self, backend: str) -> None:
        """Accept "native" only."""
        if backend.lower() != "native":
            _refuse(f"attention backend {backend!r}", _SDPA)

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


def _refuse(what: str, reason: str) -> None:
    raise NotImplementedError(f"{what} is not supported: {reason}")
