"""Near duplicates, by the hashes of three pictures of each clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Each hash is sorted as a number once for each of these rotations, in bits. Of similar hashes, some rotation begins
# with a long run of equal bits, and there they are neighbours.
_ROTATIONS = range(0, 64, 4)
_NEIGHBOURS = 8
_BITS = np.array([value.bit_count() for value in range(256)], np.uint8)


def find_copies(clips: Sequence[Mapping[str, Any]], max_distance: float) -> dict[str, str]:
    """Return the ids of the clips that are copies, each with the id of the clip that stays instead.

    Two clips are copies if the mean Hamming distance of their three 64-bit hashes is at most `max_distance`, unless
    they are parts of the same shot. A clip is dropped only for one that it resembles itself, not for a copy of a
    copy. Not all pairs are compared, and memory grows with the number of clips only.

    Args:
        clips: with `id`, `hashes` (three, hexadecimal; none to leave it out), `source` and `shot`; of copies, the
            first one in this order stays.
    """
    hashed = [clip for clip in clips if clip["hashes"]]
    if len(hashed) < 2:
        return {}
    hashes = np.array([[int(digits, 16) for digits in clip["hashes"]] for clip in hashed], np.uint64)
    shots: dict[tuple[str, str], int] = {}
    shot = np.array([shots.setdefault((clip["source"], clip["shot"]), len(shots)) for clip in hashed])
    group = _groups(hashes, shot, max_distance)
    order = np.argsort(group, kind="stable")
    copies: dict[str, str] = {}
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        kept: list[int] = []
        for one in members.tolist() if len(members) > 1 else ():
            rivals = np.array(kept, np.int64)
            is_copy = (_distance(hashes[rivals], hashes[one]) <= max_distance) & (shot[rivals] != shot[one])
            if is_copy.any():
                copies[hashed[one]["id"]] = hashed[kept[int(np.argmax(is_copy))]]["id"]
            else:
                kept.append(one)
    return copies


def _groups(hashes: np.ndarray, shot: np.ndarray, max_distance: float) -> np.ndarray:
    """Return a number for each clip, the same for clips that a chain of copies connects."""
    parents = np.arange(len(hashes))
    # One hash of copies differs by no more than all three together may.
    most = max_distance * hashes.shape[1]
    for picture in range(hashes.shape[1]):
        for bits in _ROTATIONS:
            numbers = hashes[:, picture]
            if bits:
                numbers = (numbers << np.uint64(bits)) | (numbers >> np.uint64(64 - bits))
            order = np.argsort(numbers, kind="stable")
            for step in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
                one, other = order[:-step], order[step:]
                is_open = (parents[one] != parents[other]) & (shot[one] != shot[other])
                is_open &= _distance(hashes[one, picture, None], hashes[other, picture, None]) <= most
                one, other = one[is_open], other[is_open]
                is_near = _distance(hashes[one], hashes[other]) <= max_distance
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


def _distance(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the mean Hamming distance of the hashes `[N, 3]`."""
    differences = np.ascontiguousarray(ones ^ others)
    bits = _BITS[differences.view(np.uint8)]
    return bits.sum(axis=-1, dtype=np.int64) / ones.shape[-1]
