"""Random numbers and permutations as pure functions of a seed, so that no random state has to be saved."""

from __future__ import annotations

import hashlib
from functools import lru_cache

_NUM_ROUNDS = 6
# Feistel rounds on few bits mix badly, and short permutations are faster to build than to compute.
_FEW = 256
_MASK = (1 << 64) - 1


def seed_from(*parts: int | str) -> int:
    """Return a number in [0, 2^63) that depends on all of `parts` and on their order."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def fraction_from(*parts: int | str) -> float:
    """Return a number in [0, 1) that depends on all of `parts` and on their order."""
    return seed_from(*parts) / 2**63


def shuffled_index(position: int, size: int, seed: int) -> int:
    """Return entry `position` of a shuffled range(size), in constant memory.

    A Feistel network permutes the numbers with an even number of bits. A result outside the range is permuted again
    until it lies inside (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).

    Raises:
        IndexError: `position` is outside the range.
    """
    if not 0 <= position < size:
        raise IndexError(f"position is {position}, expected 0 to {size - 1}")
    if size <= _FEW:
        return _short_order(size, seed)[position]
    half = ((size - 1).bit_length() + 1) // 2
    low, keys = (1 << half) - 1, _round_keys(seed)
    number = position
    while True:
        left, right = number >> half, number & low
        for key in keys:
            left, right = right, left ^ (_mixed(right ^ key) & low)
        number = left << half | right
        if number < size:
            return number


@lru_cache(maxsize=64)
def _short_order(size: int, seed: int) -> tuple[int, ...]:
    key = _round_keys(seed)[0]
    return tuple(sorted(range(size), key=lambda index: _mixed(key + index)))


@lru_cache(maxsize=64)
def _round_keys(seed: int) -> tuple[int, ...]:
    return tuple(_mixed(seed + (index + 1) * 0x9E3779B97F4A7C15) for index in range(_NUM_ROUNDS))


def _mixed(number: int) -> int:
    """Mix every input bit into all 64 output bits (the finalizer of SplitMix64)."""
    number &= _MASK
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    number = (number ^ number >> 27) * 0x94D049BB133111EB & _MASK
    return number ^ number >> 31
