"""The result of a conversion in either direction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

OnProgress = Callable[[int, int], None]
"""Progress callback: called with the bytes written so far and the total."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A finished conversion.

    Attributes:
        path: the folder or file that was written.
        description: one phrase that says what the model is.
        preset: name in `PRESETS`, or None for an unreleased model.
        parts: number of parameters of each network.
        num_extras: number of tensors that no network uses and that the folder keeps for converting back.
        num_bytes: total size of the written tensors.
        notes: messages for the user, one line each.
    """

    path: Path
    description: str
    preset: str | None
    parts: Mapping[str, int]
    num_extras: int
    num_bytes: int
    notes: tuple[str, ...] = ()
