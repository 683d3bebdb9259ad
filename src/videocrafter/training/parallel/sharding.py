"""Networks whose weights are shared out over the processes (FSDP2), and their tensors as if they were whole.

Each process keeps one part of every parameter, of its gradient, its moments and its average. A block's parameters
are gathered just before it runs and are given back after it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """How networks are sharded.

    Attributes:
        mesh: the processes, along one dimension.
        dtype: what gathered blocks are computed with; None is their own. Parts stay in their own, and gradients are
            reduced in float32.
        cpu_offload: keep the parts in main memory.
        reshard_after_forward: gather once more for the backward pass instead of keeping what the forward pass
            gathered.
    """

    mesh: DeviceMesh
    dtype: torch.dtype | None = None
    cpu_offload: bool = False
    reshard_after_forward: bool = True


def shard(network: nn.Module, sharding: Sharding) -> None:
    """Share out a network's parameters, which are the same in all processes, in place.

    The blocks that the network names in `_no_split_modules` are gathered one at a time, the rest of it together.
    """
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

    for parameter in network.parameters():
        # FSDP takes parameters in row-major order only (convolutions may come in another).
        parameter.data = parameter.data.contiguous()
    offload = sharding.cpu_offload and sharding.mesh.device_type != "cpu"
    settings: dict[str, Any] = {
        "mesh": sharding.mesh,
        "reshard_after_forward": sharding.reshard_after_forward,
        "offload_policy": CPUOffloadPolicy() if offload else OffloadPolicy(),
    }
    # Inputs are left alone: rates and timesteps must not be rounded, and autocast sees to the rest.
    policy = partial(MixedPrecisionPolicy, reduce_dtype=torch.float32, cast_forward_inputs=False)
    # FSDP warns of outputs that are views: nothing here changes a prediction in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    own_class = type(network)
    found = blocks(network)
    for block in found:
        fully_shard(block, mp_policy=policy(param_dtype=sharding.dtype), **settings)
    # What is around the blocks is small and takes numbers as they come, so autocast casts it where it may.
    fully_shard(network, mp_policy=policy(param_dtype=None if found else sharding.dtype), **settings)
    # FSDP makes a class of its own; saved configs name the network's.
    for name in ("__name__", "__qualname__", "__module__"):
        setattr(type(network), name, getattr(own_class, name))


def blocks(network: nn.Module) -> list[nn.Module]:
    """The parts of a network that its class names in `_no_split_modules`, as diffusers' and transformers' do."""
    names = set(getattr(network, "_no_split_modules", None) or ())
    return [module for module in network.modules() if type(module).__name__ in names]


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether this process holds only a part of a tensor."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def own_part(tensor: Tensor) -> Tensor:
    """The part that this process holds, not a copy; all of a tensor that is whole."""
    if not is_sharded(tensor):
        return tensor
    with torch.no_grad():
        part: Tensor = tensor.to_local()
        return part


def part_of(whole: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, cut as `like` is; a view."""
    if not is_sharded(like):
        return whole
    for dimension, placement in enumerate(like.placements):
        if placement.is_shard():
            size, place = like.device_mesh.size(dimension), like.device_mesh.get_local_rank(dimension)
            parts = whole.chunk(size, placement.dim)  # type: ignore[attr-defined]
            # Fewer rows than processes leave some with nothing.
            whole = parts[place] if place < len(parts) else whole.narrow(placement.dim, 0, 0)  # type: ignore[attr-defined]
    return whole


def sharded_like(part: Tensor, like: Tensor) -> Tensor:
    """A part, as the tensor that it and the other processes' are together, of the shape of `like`."""
    if not is_sharded(like):
        return part
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def whole_on_cpu(value: Any, *, keep: bool) -> Any:
    """Nested dicts and lists with every sharded tensor gathered, one after the other. All processes call it together.

    Args:
        keep: whether this process wants the result; in one that does not, None stands for gathered tensors. Tensors
            that are not sharded are passed on as they are.
    """
    if isinstance(value, Tensor):
        if not is_sharded(value):
            return value
        # Parts that rest in main memory are gathered over the devices that the processes talk over.
        near: DTensor = value.detach().to(value.device_mesh.device_type)  # type: ignore[assignment]
        whole = near.full_tensor()
        return whole.cpu() if keep else None
    if isinstance(value, Mapping):
        return {key: whole_on_cpu(item, keep=keep) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [whole_on_cpu(item, keep=keep) for item in value]
    return value


def total_norm(gradients: Sequence[Tensor], device: torch.device) -> Tensor:
    """Norm of all gradients together: of those that are sharded over all processes, of the others over this one."""
    whole = torch.nn.utils.get_total_norm([gradient for gradient in gradients if not is_sharded(gradient)])
    parts = [own_part(gradient) for gradient in gradients if is_sharded(gradient)]
    if not parts:
        return whole
    square = torch.nn.utils.get_total_norm(parts).to(device).square()
    torch.distributed.all_reduce(square)
    return (whole.to(device).square() + square).sqrt()


@torch.no_grad()
def scale(tensors: Sequence[Tensor], factor: Tensor) -> None:
    """Multiply tensors, sharded or not, by a number, in place."""
    for tensor in tensors:
        part = own_part(tensor)
        part.mul_(factor.to(part.device))


@contextmanager
def shown_whole(network: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the network's state dict holds these weights instead of the parts, so that it is saved as ever.

    Args:
        weights: by parameter name, all that are sharded.
    """

    def replace_parts(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
        for name, value in state.items():
            if name.startswith(prefix) and is_sharded(value):
                state[name] = weights[name[len(prefix) :]]

    handle = network.register_state_dict_post_hook(replace_parts)
    try:
        yield
    finally:
        handle.remove()
