"""What the keys and shapes of a state dict say: is a module there, how many are there, how large is one."""

from __future__ import annotations

from collections.abc import Mapping

Shapes = Mapping[str, tuple[int, ...]]
"""Every key of a state dict with its shape."""


def shape_at(shapes: Shapes, key: str, num_axes: int) -> tuple[int, ...]:
    """The shape of a tensor that must be there.

    Raises ValueError if it is not, has another number of axes, or is empty.
    """
    shape = shapes.get(key)
    if shape is None:
        raise ValueError(f"the checkpoint lacks {key!r}, from which the size of its network is read")
    if len(shape) != num_axes or min(shape, default=1) < 1:
        raise ValueError(f"{key} has shape {tuple(shape)}; expected {num_axes} axes, none of them empty")
    return tuple(shape)


def has_module(shapes: Shapes, prefix: str) -> bool:
    """Whether any key begins with the prefix."""
    return any(key.startswith(prefix) for key in shapes)


def num_modules(shapes: Shapes, prefix: str) -> int:
    """How many of `prefix0.`, `prefix1.`, ... there are without a gap.

    Raises ValueError if there is none.
    """
    numbers = {key[len(prefix) :].partition(".")[0] for key in shapes if key.startswith(prefix)}
    count = 0
    while str(count) in numbers:
        count += 1
    if count == 0:
        raise ValueError(f"the checkpoint lacks {prefix + '0.*'!r}, from which the size of its network is read")
    return count
