"""Stateless randomness: every generator of a step is seeded from (seed, stage, step).

No generator state has to be saved, and a resumed run draws the same numbers as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2^63) that depends on all of `parts` and on their order."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_global_generators(*parts: int | str) -> None:
    """Seed Python's, numpy's and torch's global generators from `parts`."""
    seed = derive_seed(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        # `torch.manual_seed` records a stack trace for devices initialised later, which is slower than a small
        # network's step.
        torch.default_generator.manual_seed(seed)


def make_generator(device: torch.device, *parts: int | str) -> torch.Generator:
    """Return a generator on `device`, seeded from `parts`."""
    return torch.Generator(device=device).manual_seed(derive_seed(*parts))
