"""Near duplicates, by the hashes of pictures of each clip: three of the whole, three of each end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

# Each hash is sorted as a number once for each of these rotations, in bits. Of similar hashes, some rotation begins
# with a long run of equal bits, and there they are neighbours.
_ROTATIONS = range(0, 64, 4)
_NEIGHBOURS = 8
_BITS = np.array([value.bit_count() for value in range(256)], np.uint8)


def find_copies(clips: Sequence[Mapping[str, Any]], max_distance: float) -> dict[str, str]:
    """Return the ids of the clips that are copies, each with the id of the clip that stays instead.

    Two clips are copies if the mean Hamming distance of three 64-bit hashes is at most `max_distance`, of the whole,
    of the beginning or of the end, unless they are parts of the same shot. A clip is dropped only for one that it
    resembles itself, not for a copy of a copy. Not all pairs are compared, and memory grows with the number of clips
    only.

    Args:
        clips: with `id`, `hashes` (hexadecimal, three for each part, of as many parts as the other clips have; an
            empty one leaves its part out, and none at all the clip), `source` and `shot`; of copies, the first one in
            this order stays.
    """
    hashed = [clip for clip in clips if clip["hashes"]]
    if len(hashed) < 2:
        return {}
    numbers = np.array([[int(digits or "0", 16) for digits in clip["hashes"]] for clip in hashed], np.uint64)
    is_there = np.array([[bool(digits) for digits in clip["hashes"]] for clip in hashed])
    has_all = np.asarray(is_there.reshape(len(hashed), -1, 3).all(axis=2))
    hashes = _Hashes(numbers.reshape(len(hashed), -1, 3), has_all)
    shots: dict[tuple[str, str], int] = {}
    shot = np.array([shots.setdefault((clip["source"], clip["shot"]), len(shots)) for clip in hashed])
    group = _groups(hashes, max_distance)
    order = np.argsort(group, kind="stable")
    copies: dict[str, str] = {}
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        kept: list[int] = []
        for one in members.tolist() if len(members) > 1 else ():
            rivals = np.array(kept, np.int64)
            is_copy = (hashes.distance(rivals, np.array([one])) <= max_distance) & (shot[rivals] != shot[one])
            if is_copy.any():
                copies[hashed[one]["id"]] = hashed[kept[int(np.argmax(is_copy))]]["id"]
            else:
                kept.append(one)
    return copies


class _Hashes(NamedTuple):
    """Hashes of `P` parts of `N` clips, `[N, P, 3]`, and which parts have them, `[N, P]`."""

    numbers: np.ndarray
    is_there: np.ndarray

    def distance(self, ones: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return the mean Hamming distance of the parts that are most alike; infinity without a common part."""
        bits = _bits(self.numbers[ones] ^ self.numbers[others]).mean(axis=-1)
        nearest: np.ndarray = np.where(self.is_there[ones] & self.is_there[others], bits, np.inf).min(axis=-1)
        return nearest


def _groups(hashes: _Hashes, max_distance: float) -> np.ndarray:
    """Return a number for each clip, the same for clips that a chain of similar ones connects.

    Parts of one shot are connected, too. Otherwise they would take the places of all neighbours of each other.
    """
    parents = np.arange(len(hashes.numbers))
    # One hash of copies differs by no more than all three together may.
    most = max_distance * 3
    for part in range(hashes.is_there.shape[1]):
        clips = np.flatnonzero(hashes.is_there[:, part])
        for picture, bits in product(range(3), _ROTATIONS):
            numbers = hashes.numbers[clips, part, picture]
            turned = (numbers << np.uint64(bits)) | (numbers >> np.uint64(64 - bits)) if bits else numbers
            order = np.argsort(turned, kind="stable")
            for step in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
                one, other = clips[order[:-step]], clips[order[step:]]
                is_open = parents[one] != parents[other]
                is_open &= _bits(numbers[order[:-step]] ^ numbers[order[step:]]) <= most
                one, other = one[is_open], other[is_open]
                is_near = hashes.distance(one, other) <= max_distance
                if is_near.any():
                    _join(parents, one[is_near].tolist(), other[is_near].tolist())
    return parents


def _join(parents: np.ndarray, ones: list[int], others: list[int]) -> None:
    """Join groups in place. Before and after, every clip points to the root of its group."""
    for one, other in zip(ones, others, strict=True):
        low, high = sorted((_root(parents, one), _root(parents, other)))
        parents[high] = low
    while not np.array_equal(parents, above := parents[parents]):
        parents[:] = above


def _root(parents: np.ndarray, index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = int(parents[index])
    return index


def _bits(numbers: np.ndarray) -> np.ndarray:
    """Return how many bits of each number are set."""
    found: np.ndarray = _BITS[np.ascontiguousarray(numbers)[..., None].view(np.uint8)].sum(axis=-1, dtype=np.int64)
    return found
