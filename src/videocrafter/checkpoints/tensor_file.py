"""Write safetensors files tensor by tensor, so that memory holds one tensor at a time, whatever the model's size.

The safetensors library needs all tensors of a file at once. The format is simple to stream: eight bytes of header
length, a JSON header, then the tensors' bytes without gaps (little-endian).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from videocrafter.checkpoints.finite_values import count_nonfinite

LARGEST_SHARD = 2 * 10**9
"""Most bytes of tensors in one file; a larger network is written as several files and an index."""

OnBytes = Callable[[int], None]
"""Called after each tensor with its number of bytes."""

_DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True, kw_only=True)
class PlannedTensor:
    """A tensor to be written, loaded only when its turn comes.

    Attributes:
        name: key in the file.
        shape, dtype: as in the file.
        load: returns the tensor, in any dtype; called once.
        is_weight: whether a network uses it, so that NaN and infinity are errors.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    load: Callable[[], Tensor]
    is_weight: bool = False

    def checked(self) -> Tensor:
        """Load the tensor. Raises ValueError if it does not fit its plan, or is a weight with NaN or infinity."""
        tensor = self.load().detach()
        if tuple(tensor.shape) != self.shape:
            raise ValueError(f"{self.name!r} has shape {tuple(tensor.shape)}, expected {self.shape}")
        count = count_nonfinite(tensor) if self.is_weight else 0
        if count:
            raise ValueError(
                f"{self.name!r} has {count:,} of {self.num_elements:,} values that are NaN or infinite, so the model"
                " cannot work; use another checkpoint, or EMA weights if the file holds them (--ema)"
            )
        return tensor

    @property
    def num_bytes(self) -> int:
        """Bytes in the file."""
        return self.num_elements * self.dtype.itemsize

    @property
    def num_elements(self) -> int:
        """Number of values."""
        return torch.Size(self.shape).numel()


def write_part(
    folder: Path,
    stem: str,
    tensors: Sequence[PlannedTensor],
    *,
    on_bytes: OnBytes | None = None,
) -> None:
    """Write the weights of one network as `STEM.safetensors`, or as shards with an index in the layout of the hub.

    Args:
        folder: the network's existing folder.
        stem: "model" for transformers, "diffusion_pytorch_model" for diffusers.
        tensors: the weights.
        on_bytes: drives a progress bar.
    """
    shards = split_into_shards(tensors, LARGEST_SHARD)
    if len(shards) == 1:
        write_tensors(folder / f"{stem}.safetensors", shards[0], on_bytes=on_bytes)
        return
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors"
        write_tensors(folder / name, shard, on_bytes=on_bytes)
        places |= {tensor.name: name for tensor in shard}
    total = sum(tensor.num_bytes for tensor in tensors)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def split_into_shards(tensors: Sequence[PlannedTensor], largest: int) -> list[list[PlannedTensor]]:
    """Split into consecutive groups of at most `largest` bytes; a larger tensor gets a group of its own."""
    shards: list[list[PlannedTensor]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.num_bytes > largest:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.num_bytes
    return shards


def write_tensors(
    path: Path,
    tensors: Sequence[PlannedTensor],
    *,
    metadata: Mapping[str, str] | None = None,
    on_bytes: OnBytes | None = None,
) -> None:
    """Write one safetensors file, with `metadata` in its header.

    Raises:
        ValueError: a tensor does not match its plan, its dtype is not supported by the format, or its values overflow
            the dtype that it is converted to.
    """
    # Wide types first, so that every tensor begins at a multiple of its width.
    ordered = sorted(tensors, key=lambda tensor: -tensor.dtype.itemsize)
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    offset = 0
    for tensor in ordered:
        if tensor.dtype not in _DTYPE_NAMES:
            raise ValueError(
                f"{tensor.name!r} has dtype {tensor.dtype}, which safetensors does not support; pass --dtype"
            )
        end = offset + tensor.num_bytes
        header[tensor.name] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("xb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for tensor in ordered:
            file.write(_bytes_of(tensor))
            if on_bytes is not None:
                on_bytes(tensor.num_bytes)


def _bytes_of(planned: PlannedTensor) -> memoryview:
    given = planned.checked()
    tensor = given.to(planned.dtype)
    if tensor.dtype != given.dtype and count_nonfinite(tensor) > count_nonfinite(given):
        wanted = str(planned.dtype).removeprefix("torch.")
        raise ValueError(
            f"{planned.name!r} has {count_nonfinite(tensor):,} values that are too large for {wanted} (up to"
            f" {given.abs().max():.3g}); convert to bfloat16 or float32"
        )
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
