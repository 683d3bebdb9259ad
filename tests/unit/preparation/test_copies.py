"""Copies are found among many clips without comparing all pairs."""

import numpy as np
import pytest

from videocrafter.preparation.copies import find_copies


def clip(name: str, hashes: list[int], shot: str = "") -> dict:
    return {"id": name, "source": "s", "shot": shot or name, "hashes": [f"{number:016x}" for number in hashes]}


def changed(random: np.random.Generator, hashes: list[int], bits: int) -> list[int]:
    return [number ^ sum(1 << int(bit) for bit in random.choice(64, bits, replace=False)) for number in hashes]


def test_copies_are_found_among_many_clips_and_nothing_else():
    random = np.random.default_rng(0)
    clips = [clip(f"{n:05d}", [int(random.integers(2**63)) for _ in range(3)]) for n in range(20_000)]
    copies = {
        f"copy{n}": changed(random, [int(digits, 16) for digits in clips[n]["hashes"]], 5) for n in range(0, 2000, 4)
    }
    clips += [clip(name, hashes) for name, hashes in copies.items()]
    found = find_copies(clips, 6)
    assert all(stays == f"{int(name.removeprefix('copy')):05d}" for name, stays in found.items())
    assert len(found) >= 0.99 * len(copies)


def test_many_equal_pictures_leave_one():
    found = find_copies([clip(f"{n:05d}", [0, 0, 0]) for n in range(3000)], 6)
    assert len(found) == 2999
    assert set(found.values()) == {"00000"}


def test_a_copy_of_a_copy_and_the_parts_of_one_shot_stay():
    chain = [clip("a", [0, 0, 0]), clip("b", [0x3F] * 3), clip("c", [0xFFF] * 3)]
    assert find_copies(chain, 6) == {"b": "a"}
    # Both parts of the better film stay, although the other film connects them.
    parts = [clip("a1", [0, 0, 0], "a"), clip("a2", [1, 1, 1], "a"), clip("b", [0, 0, 1])]
    assert find_copies(parts, 6) == {"b": "a1"}


@pytest.mark.parametrize("count", [2, 20, 40, 100])
def test_parts_of_one_shot_do_not_hide_their_copies(count):
    clips = [clip(f"{shot}{n:03d}", [0, 0, 0], shot) for shot in "ab" for n in range(count)]
    assert find_copies(clips, 6) == {f"b{n:03d}": "a000" for n in range(count)}


def test_clips_with_one_end_in_common_are_copies():
    random = np.random.default_rng(1)
    whole, start, end, other, third = ([int(random.integers(2**63)) for _ in range(3)] for _ in range(5))
    clips = [clip("a", whole + start + end), clip("b", other + start + third), clip("c", third + other + end)]
    assert find_copies(clips, 6) == {"b": "a", "c": "a"}
    # Beginnings are compared with beginnings only.
    assert find_copies([clip("a", whole + start + end), clip("b", start + other + third)], 6) == {}


def test_blank_pictures_make_no_copies():
    random = np.random.default_rng(2)
    black = [clip(name, [int(random.integers(2**63)) for _ in range(3)] + [0, 0, 0]) for name in ("a", "b")]
    assert find_copies(black, 6) == {"b": "a"}
    for one in black:
        one["hashes"][4] = ""
    assert find_copies(black, 6) == {}
