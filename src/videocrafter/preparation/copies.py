"""Groups of near duplicates, by the hashes of three pictures of each clip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

_BANDS, _BITS = 8, 8
# Buckets of pictures with little structure are large. There, only clips with similar hashes are compared.
_SMALL_BUCKET, _NEIGHBOURS = 64, 16


def copy_groups(clips: Sequence[Mapping[str, Any]], max_distance: float) -> list[list[str]]:
    """Return groups of ids that show the same, each sorted, the groups by their first id.

    Two clips are copies if the mean Hamming distance of their three 64-bit hashes is at most `max_distance`, unless
    they are parts of the same shot. Candidates share eight bits in a row of a hash, so that not all pairs are tried.

    Args:
        clips: with `id`, `hashes` (hexadecimal), `source` and `shot`.
    """
    hashes = [[int(digits, 16) for digits in clip["hashes"]] for clip in clips]
    buckets: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for index, numbers in enumerate(hashes):
        for picture, number in enumerate(numbers):
            for band in range(_BANDS):
                buckets[picture, band, number >> (band * _BITS) & (1 << _BITS) - 1].append(index)
    parents = list(range(len(clips)))
    seen: set[tuple[int, int]] = set()
    for (picture, _, _), members in buckets.items():
        for pair in _candidates(members, [hashes[index][picture] for index in members]):
            if pair in seen:
                continue
            seen.add(pair)
            first, second = pair
            if (
                not _is_same_shot(clips[first], clips[second])
                and _distance(*(hashes[i] for i in pair)) <= max_distance
            ):
                parents[_root(parents, second)] = _root(parents, first)
    groups: dict[int, list[str]] = defaultdict(list)
    for index, clip in enumerate(clips):
        groups[_root(parents, index)].append(clip["id"])
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def _candidates(members: list[int], numbers: list[int]) -> set[tuple[int, int]]:
    if len(members) <= _SMALL_BUCKET:
        return set(combinations(members, 2))
    ordered = [member for _, member in sorted(zip(numbers, members, strict=True))]
    return {
        (min(one, other), max(one, other))
        for place, one in enumerate(ordered)
        for other in ordered[place + 1 : place + 1 + _NEIGHBOURS]
    }


def _distance(one: list[int], other: list[int]) -> float:
    if not one or len(one) != len(other):
        return float("inf")
    return sum((a ^ b).bit_count() for a, b in zip(one, other, strict=True)) / len(one)


def _is_same_shot(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one["source"] == other["source"] and one["shot"] == other["shot"]


def _root(parents: list[int], index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index
