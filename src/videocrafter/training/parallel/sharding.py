"""Sharding of networks over processes (FSDP2), and functions that treat sharded tensors like ordinary ones.

Each process holds one shard of every parameter, its gradient, its moments and its EMA. A block's parameters are
gathered just before the block runs and freed afterwards.
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
    """Options of FSDP2.

    Attributes:
        mesh: one-dimensional mesh of the processes.
        dtype: data type of gathered blocks; None keeps the parameters' own. Shards keep their own type, and gradients
            are reduced in float32.
        cpu_offload: keep the shards in main memory.
        reshard_after_forward: free gathered weights after the forward pass and gather them again for the backward
            pass.
    """

    mesh: DeviceMesh
    dtype: torch.dtype | None = None
    cpu_offload: bool = False
    reshard_after_forward: bool = True


def shard(network: nn.Module, sharding: Sharding) -> None:
    """Shard a network in place; its parameters must be equal in all processes.

    The network's `blocks` are gathered one at a time, all other parameters together.
    """
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

    for parameter in network.parameters():
        # FSDP requires contiguous parameters; convolutions may be channels_last.
        parameter.data = parameter.data.contiguous()
    offload = sharding.cpu_offload and sharding.mesh.device_type != "cpu"
    settings: dict[str, Any] = {
        "mesh": sharding.mesh,
        "reshard_after_forward": sharding.reshard_after_forward,
        "offload_policy": CPUOffloadPolicy() if offload else OffloadPolicy(),
    }
    # Do not cast inputs: rates and timesteps must not be rounded, and autocast handles the rest.
    policy = partial(MixedPrecisionPolicy, reduce_dtype=torch.float32, cast_forward_inputs=False)
    # FSDP warns about outputs that are views; no prediction is modified in place here.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    own_class = type(network)
    found = blocks(network)
    for block in found:
        fully_shard(block, mp_policy=policy(param_dtype=sharding.dtype), **settings)
    # The layers around the blocks are small and take uncast inputs, so autocast handles them.
    fully_shard(network, mp_policy=policy(param_dtype=None if found else sharding.dtype), **settings)
    # FSDP replaces the class; saved configs must name the original one.
    for name in ("__name__", "__qualname__", "__module__"):
        setattr(type(network), name, getattr(own_class, name))


def blocks(network: nn.Module) -> list[nn.Module]:
    """Return the blocks of the classes that a network lists in `_sharded_blocks`, or else in `_no_split_modules`."""
    unsplit = getattr(network, "_no_split_modules", None) or ()
    names = set(getattr(network, "_sharded_blocks", unsplit))
    return [module for module in network.modules() if type(module).__name__ in names]


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether this process holds only a shard of a tensor."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def own_part(tensor: Tensor) -> Tensor:
    """Return the local shard without copying, or the tensor itself if it is not sharded."""
    if not is_sharded(tensor):
        return tensor
    with torch.no_grad():
        part: Tensor = tensor.to_local()
        return part


def part_of(whole: Tensor, like: Tensor) -> Tensor:
    """Return a view of this process's part of a full tensor, split the way `like` is sharded."""
    if not is_sharded(like):
        return whole
    for dimension, placement in enumerate(like.placements):
        if placement.is_shard():
            size, place = like.device_mesh.size(dimension), like.device_mesh.get_local_rank(dimension)
            parts = whole.chunk(size, placement.dim)  # type: ignore[attr-defined]
            # With fewer rows than processes, some shards are empty.
            whole = parts[place] if place < len(parts) else whole.narrow(placement.dim, 0, 0)  # type: ignore[attr-defined]
    return whole


def sharded_like(part: Tensor, like: Tensor) -> Tensor:
    """Wrap a local shard as a sharded tensor with the shape and placement of `like`."""
    if not is_sharded(like):
        return part
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def whole_on_cpu(value: Any, *, keep: bool) -> Any:
    """Collective: gather every sharded tensor in nested dicts and lists, one at a time.

    Args:
        keep: whether this process keeps the gathered tensors, on the CPU; otherwise they are replaced by None.
            Tensors that are not sharded are returned unchanged.
    """
    if isinstance(value, Tensor):
        if not is_sharded(value):
            return value
        # Move offloaded shards to the communication device before gathering.
        near: DTensor = value.detach().to(value.device_mesh.device_type)  # type: ignore[assignment]
        whole = near.full_tensor()
        return whole.cpu() if keep else None
    if isinstance(value, Mapping):
        return {key: whole_on_cpu(item, keep=keep) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [whole_on_cpu(item, keep=keep) for item in value]
    return value


def total_norm(gradients: Sequence[Tensor], device: torch.device) -> Tensor:
    """Collective: return the norm of all gradients; sharded ones are summed over processes, others counted once."""
    whole = torch.nn.utils.get_total_norm([gradient for gradient in gradients if not is_sharded(gradient)])
    parts = [own_part(gradient) for gradient in gradients if is_sharded(gradient)]
    if not parts:
        return whole
    square = torch.nn.utils.get_total_norm(parts).to(device).square()
    torch.distributed.all_reduce(square)
    return (whole.to(device).square() + square).sqrt()


@torch.no_grad()
def scale(tensors: Sequence[Tensor], factor: Tensor) -> None:
    """Multiply tensors, sharded or not, by a factor, in place."""
    for tensor in tensors:
        part = own_part(tensor)
        part.mul_(factor.to(part.device))


@contextmanager
def shown_whole(network: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within the context, the network's state dict returns full weights instead of shards, so that it can be saved.

    Args:
        weights: full weights of all sharded parameters, by name.
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
