"""Peak memory and operations of a computation, counted on the meta device.

The networks themselves run there, forward and backward, so no estimate can drift away from the code. `ComputeAs`
simulates the two things that depend on a real device: the types in which autocast computes, and the kernels of
attention, dropout and group norm.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import flop_registry

from videocrafter.models.attention import SHORT_SEQUENCE, attend_unfused
from videocrafter.models.group_norm import FEW_CHANNELS
from videocrafter.training.planning.known_results import call

DeviceKind = Literal["cpu", "gpu"]

# Functions of torch that autocast computes in bfloat16.
_IN_BF16 = frozenset(
    {"linear", "conv1d", "conv2d", "conv3d", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm"}
    | {"einsum", "scaled_dot_product_attention"}
)
# Functions that it computes in float32 although their inputs may be bfloat16.
_IN_FP32: dict[DeviceKind, frozenset[str]] = {
    "gpu": frozenset(
        {"layer_norm", "group_norm", "softmax", "log_softmax", "interpolate", "mse_loss", "l1_loss", "kl_div"}
        | {"cross_entropy", "pow", "exp", "log", "sum", "cumsum", "prod"}
    ),
    "cpu": frozenset({"mse_loss", "l1_loss", "kl_div", "prod"}),
}


# Dimensions of the inputs of fused attention; torch computes others with plain operations.
_FUSED_DIMENSIONS = 4


class Meter(TorchDispatchMode):
    """Counts the bytes of all live storages created within its context, and the operations.

    Attributes:
        now, peak: live bytes, and their maximum so far.
        flops: two for each multiply-add of matrix products, convolutions and attention.

    Args:
        known: tensors that are not counted, such as weights.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = self.flops = 0
        self._seen: dict[int, weakref.ref[Any] | None] = {tensor.untyped_storage()._cdata: None for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count its new storages and its floating-point operations."""
        kwargs = kwargs or {}
        result = call(func, args, kwargs)
        for made in result if isinstance(result, tuple | list) else (result,):
            if isinstance(made, Tensor):
                self._count(made.untyped_storage())
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=result)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self._seen[key] = weakref.ref(storage, lambda _: self._forget(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int) -> None:
        if self._seen.pop(key, None) is not None:
            self.now -= size


class ComputeAs(TorchFunctionMode):
    """Computes with meta tensors as a real device would, within its context.

    Args:
        kind: kind of device.
        bf16: simulate autocast to bfloat16, which keeps bfloat16 copies of trainable weights until the context ends.
    """

    def __init__(self, kind: DeviceKind, *, bf16: bool) -> None:
        super().__init__()
        self._kind, self._bf16 = kind, bf16
        self._kept: dict[int, Tensor] = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop the copies of weights."""
        self._kept.clear()
        super().__exit__(kind, error, trace)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch, or the device's counterpart of it."""
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if self._bf16 and name in _IN_BF16:
            args, kwargs = tree_map(self._to_bf16, (args, kwargs))
        elif self._bf16 and name in _IN_FP32[self._kind]:
            args, kwargs = tree_map(_to_fp32, (args, kwargs))
        if func is functional.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if func is functional.dropout and self._kind == "gpu":
            return _dropout_with_mask(*args, **kwargs)
        if func is functional.group_norm and self._kind == "cpu":
            return _group_norm_in_place(func, *args, **kwargs)
        return func(*args, **kwargs)

    def _to_bf16(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        # A copy made without gradients would cut off those of later calls.
        if not (value.is_leaf and value.requires_grad and torch.is_grad_enabled()):
            return value.to(torch.bfloat16)
        key = id(value)
        if key not in self._kept:
            self._kept[key] = value.to(torch.bfloat16)
        return self._kept[key]

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, *others: Any, **options: Any) -> Tensor:
        """Fused attention, which saves no scores; or written out, as `models.attention.attend` does on CPUs."""
        is_plain = not others and not options
        if self._kind == "cpu" and is_plain and torch.is_grad_enabled() and key.shape[-2] <= SHORT_SEQUENCE:
            return attend_unfused(query, key, value)
        aten = torch.ops.aten
        if query.ndim == _FUSED_DIMENSIONS and is_plain:
            out = aten._scaled_dot_product_flash_attention(query, key, value)[0]
        else:
            out = aten._scaled_dot_product_attention_math(query, key, value, *others, **options)[0]
        return cast("Tensor", out)


def checkpointing_as(kind: DeviceKind, *, bf16: bool) -> Any:
    """Return a function for `enable_gradient_checkpointing` that recomputes within `ComputeAs`."""

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), ComputeAs(kind, bf16=bf16)

    return partial(checkpoint, use_reentrant=False, context_fn=contexts)


def tensors_of(modules: Iterable[nn.Module]) -> list[Tensor]:
    """Return all parameters, their gradients where they exist, and all buffers."""
    found: list[Tensor] = []
    for module in modules:
        for parameter in module.parameters():
            found.append(parameter)
            if parameter.grad is not None:
                found.append(parameter.grad)
        found += list(module.buffers())
    return found


def _to_fp32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value


def _dropout_with_mask(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout as on GPUs, which save a mask of one byte per number."""
    return torch.native_dropout(x, p, training)[0] if training and p > 0 else x


def _group_norm_in_place(
    func: Any, x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Group norm as on CPUs, which copies channels-last tensors only where `GroupNorm` of our networks does.

    A layer norm over the channels, which come last in memory, allocates and saves as much.
    """
    if x.dtype in (torch.bfloat16, torch.float16) and x.shape[1] // num_groups <= FEW_CHANNELS:
        copied = func(x.contiguous(), num_groups, weight, bias, eps)
        return copied.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else copied
    if x.ndim != 4 or x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return func(x, num_groups, weight, bias, eps)
    normed = functional.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), weight, bias, eps)
    return normed.permute(0, 3, 1, 2)
