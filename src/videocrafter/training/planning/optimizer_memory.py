"""Memory of the optimizers: the state per parameter, and the working memory of a step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from videocrafter.training.config import OptimizerConfig

_FLOAT, _HALF = 4, 2
# bitsandbytes: one byte per moment and one scale per block; small tensors stay in float32.
_FEWEST_8BIT, _BLOCK = 4096, 256
# `LeanAdamW` updates one parameter at a time: both moments, the denominator, and the bits for rounding.
_LEAN_WORKING = 24


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One trainable parameter, or this process's shard of it.

    Attributes:
        shape: shape of the shard.
        is_matrix: whether it is a hidden matrix, which Muon updates.
    """

    shape: tuple[int, ...]
    is_matrix: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def moments(config: OptimizerConfig, weights: Iterable[Weights]) -> int:
    """Return the bytes of the optimizer's state."""
    return sum(_kept(config, one) for one in weights)


def working(config: OptimizerConfig, weights: Iterable[Weights]) -> int:
    """Return the peak bytes of working memory in a step, which updates one parameter at a time."""
    return max((_needed(config, one) for one in weights), default=0)


def _kept(config: OptimizerConfig, one: Weights) -> int:
    if config.name == "muon" and one.is_matrix:
        return _FLOAT * one.size
    if config.name == "adamw8bit" and one.size >= _FEWEST_8BIT:
        return 2 * (one.size + _FLOAT * -(-one.size // _BLOCK))
    return 2 * (_HALF if config.state_dtype == "bf16" else _FLOAT) * one.size


def _needed(config: OptimizerConfig, one: Weights) -> int:
    if config.name == "muon" and one.is_matrix:
        # The update; and in bfloat16, to orthogonalise it, two matrices and three squares of its smaller side.
        return (_FLOAT + 2 * _HALF) * one.size + 3 * _HALF * min(one.shape) ** 2
    return _LEAN_WORKING * one.size if config.state_dtype == "bf16" else 0
