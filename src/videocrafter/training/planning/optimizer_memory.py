"""What optimizers keep for each parameter, and what a step takes beside that."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from videocrafter.training.config import OptimizerConfig

_FLOAT, _HALF = 4, 2
# bitsandbytes: a byte for each moment and a scale for each block; small tensors are kept as they are.
_FEWEST_8BIT, _BLOCK = 4096, 256
# `LeanAdamW` works on one parameter at a time, with both moments, the spread, and the bits for rounding.
_LEAN_WORKING = 24


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One parameter that learns, or this process's part of it.

    Attributes:
        shape: of the part.
        is_matrix: a hidden matrix, which Muon takes.
    """

    shape: tuple[int, ...]
    is_matrix: bool = False

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)


def moments(config: OptimizerConfig, weights: Iterable[Weights]) -> int:
    """Bytes of everything that the optimizer keeps between steps."""
    return sum(_kept(config, one) for one in weights)


def working(config: OptimizerConfig, weights: Iterable[Weights]) -> int:
    """Bytes that a step takes at most, for one parameter at a time."""
    return max((_needed(config, one) for one in weights), default=0)


def _kept(config: OptimizerConfig, one: Weights) -> int:
    if config.name == "muon" and one.is_matrix:
        return _FLOAT * one.size
    if config.name == "adamw8bit" and one.size >= _FEWEST_8BIT:
        return 2 * (one.size + _FLOAT * -(-one.size // _BLOCK))
    return 2 * (_HALF if config.state_dtype == "bf16" else _FLOAT) * one.size


def _needed(config: OptimizerConfig, one: Weights) -> int:
    if config.name == "muon" and one.is_matrix:
        # The update, and what makes it orthogonal in bfloat16: two matrices and three of its smaller side's square.
        return (_FLOAT + 2 * _HALF) * one.size + 3 * _HALF * min(one.shape) ** 2
    return _LEAN_WORKING * one.size if config.state_dtype == "bf16" else 0
