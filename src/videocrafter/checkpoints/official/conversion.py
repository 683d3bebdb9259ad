"""What a conversion did, in numbers and notes; the same for both directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

OnProgress = Callable[[int, int], None]
"""Called with the bytes that are written and the bytes that will be."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A finished conversion.

    Attributes:
        path: what was written.
        description: what the model is, one phrase.
        preset: name in `PRESETS` if it is one of the released models, else None.
        parts: number of parameters of each network.
        num_kept_aside: tensors that no network holds and that are kept for the way back; on the way back, those
            that came from there.
        num_bytes: of tensors written.
        notes: what the user should know, one line each.
    """

    path: Path
    description: str
    preset: str | None
    parts: Mapping[str, int]
    num_kept_aside: int
    num_bytes: int
    notes: tuple[str, ...] = ()
