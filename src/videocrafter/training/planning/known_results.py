"""Cache of the results of operations on meta tensors: shape inference in torch is slow, and repeats itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

# Size, stride and type of a tensor that an operation creates.
_Made = tuple[torch.Size, tuple[int, ...], torch.dtype]
# Type of the result and the tensors in it; an empty list if the result cannot be cached.
_known_results: dict[object, tuple[type, list[_Made | None]]] = {}


def call(func: Any, args: Any, kwargs: Any) -> Any:
    """Return an operation's result, from the cache unless it is new or shares memory with its inputs."""
    try:
        key = (func, _shape(args), _shape(kwargs))
        known = _known_results.get(key)
    except TypeError:  # a tensor with content, or an argument without a hash
        return func(*args, **kwargs)
    if known is None:
        result = func(*args, **kwargs)
        _known_results[key] = type(result), _made_anew(result, (args, kwargs))
        return result
    kind, made = known
    if not made:
        return func(*args, **kwargs)
    results = [one and torch.empty_strided(one[0], one[1], dtype=one[2], device="meta") for one in made]
    return results[0] if kind is Tensor else kind(results)


def _shape(value: Any) -> object:
    """Return a key of all that a result depends on.

    Raises:
        TypeError: an argument is a tensor with content.
    """
    if isinstance(value, Tensor):
        if not value.is_meta:
            raise TypeError("a tensor with content")
        return value.shape, value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return (type(value), *map(_shape, value))
    if isinstance(value, dict):
        return tuple((name, _shape(one)) for name, one in value.items())
    return type(value), value  # True, 1 and 1.0 are equal, but their results may not be


def _made_anew(result: Any, given: Any) -> list[_Made | None]:
    """Return the tensors of a result; none if it shares memory with the inputs, or its parts with one another."""
    parts = list(result) if isinstance(result, list | tuple) else [result]
    tensors = [one for one in parts if one is not None]
    if not tensors or not all(type(one) is Tensor and one.is_meta for one in tensors):
        return []
    storages = {one.untyped_storage()._cdata for one in tensors}
    shared = storages & {one.untyped_storage()._cdata for one in tree_leaves(given) if isinstance(one, Tensor)}
    if shared or len(storages) < len(tensors):
        return []
    if any(one.untyped_storage().nbytes() != _bytes_of(one) for one in tensors):  # views of a larger storage
        return []
    return [None if one is None else (one.shape, one.stride(), one.dtype) for one in parts]


def _bytes_of(tensor: Tensor) -> int:
    like = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return like.untyped_storage().nbytes()
