"""Orders are permutations, depend only on their seeds, and appear random."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.data.shuffling import fraction_from, seed_from, shuffled_index


@given(size=st.integers(1, 700), seed=st.integers(0, 2**63 - 1))
def test_every_position_of_an_order_has_another_entry(size: int, seed: int) -> None:
    assert sorted(shuffled_index(position, size, seed) for position in range(size)) == list(range(size))


def test_an_order_of_billions_needs_no_list() -> None:
    entries = {shuffled_index(position, 5_000_000_000, 1) for position in range(1000)}
    assert len(entries) == 1000
    assert max(entries) > 4_000_000_000


def test_orders_are_the_same_on_every_machine() -> None:
    assert [shuffled_index(position, 10, 7) for position in range(10)] == [7, 3, 1, 9, 6, 0, 2, 8, 5, 4]
    assert [shuffled_index(position, 1000, 7) for position in range(5)] == [752, 163, 995, 631, 552]
    assert seed_from("a", 1) == 5566339428396816726


@pytest.mark.parametrize("size", [3, 10, 1000])
def test_every_entry_is_equally_likely_at_every_position(size: int) -> None:
    firsts = np.bincount(
        [shuffled_index(size // 2, size, seed_from(seed)) for seed in range(20 * size)], minlength=size
    )
    # Chi-squared has mean size and variance 2 size, approximately; allow five standard deviations.
    assert ((firsts - 20) ** 2 / 20).sum() < size + 5 * np.sqrt(2 * size)


def test_neighbours_are_separated() -> None:
    order = np.array([shuffled_index(position, 1000, 3) for position in range(1000)])
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.1
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1


def test_seeds_depend_on_all_parts_and_their_order() -> None:
    seeds = [seed_from(*parts) for parts in ((1, 2), (2, 1), (12,), ("1", 2), (1, 2, 0))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= fraction_from(seed) < 1 for seed in seeds)


def test_a_position_outside_is_refused() -> None:
    with pytest.raises(IndexError, match="position is 3, expected 0 to 2"):
        shuffled_index(3, 3, 0)
