"""Queries on the keys and shapes of a state dict: whether modules exist, how many, and their sizes."""

from __future__ import annotations

from collections.abc import Mapping

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of every tensor of a state dict, by key."""


def shape_at(shapes: Shapes, key: str, num_axes: int) -> tuple[int, ...]:
    """Return the shape of a required tensor.

    Raises ValueError if it is missing, empty, or has another number of axes.
    """
    shape = shapes.get(key)
    if shape is None:
        raise ValueError(f"the checkpoint lacks {key!r}, which determines the size of its network")
    if len(shape) != num_axes or min(shape, default=1) < 1:
        raise ValueError(f"{key} has shape {tuple(shape)}; expected {num_axes} axes, none of them empty")
    return tuple(shape)


def has_module(shapes: Shapes, prefix: str) -> bool:
    """Return whether any key begins with the prefix."""
    return any(key.startswith(prefix) for key in shapes)


def num_modules(shapes: Shapes, prefix: str) -> int:
    """Count the modules `prefix0.`, `prefix1.`, ... up to the first gap.

    Raises ValueError if there is none.
    """
    numbers = {key[len(prefix) :].partition(".")[0] for key in shapes if key.startswith(prefix)}
    count = 0
    while str(count) in numbers:
        count += 1
    if count == 0:
        raise ValueError(f"the checkpoint lacks {prefix + '0.*'!r}, which determines the size of its network")
    return count
