"""In an epoch no sample comes twice in any process, shares are exact, and a position determines the rest."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.stub_clips import StubSource, archives, table
from videocrafter.data.errors import SourceError
from videocrafter.data.order import Draw, MixedOrder, Position
from videocrafter.data.source import ClipSource

SHARDS = st.lists(st.integers(0, 5), min_size=1, max_size=8).filter(any)


def mixed(
    sources: list[ClipSource],
    weights: list[float] | None = None,
    *,
    seed: int = 0,
    shuffle: bool = True,
    rank: int = 0,
    world_size: int = 1,
    epochs: int | None = None,
) -> MixedOrder:
    return MixedOrder(
        dict(enumerate(sources)),
        weights or [1.0] * len(sources),
        seed=seed,
        shuffle=shuffle,
        rank=rank,
        world_size=world_size,
        epochs=epochs,
    )


def walk(order: MixedOrder, position: Position | None = None) -> Iterator[tuple[Draw, Position]]:
    found = order.next(position or order.start())
    while found is not None:
        yield found
        found = order.next(found[1])


def first(order: MixedOrder, count: int) -> list[Draw]:
    return [draw for draw, _ in itertools.islice(walk(order), count)]


def all_clips(source: StubSource) -> Counter[tuple[int, int]]:
    return Counter((shard, item) for shard, clips in enumerate(source.shards) for item in range(len(clips)))


@given(
    sizes=SHARDS,
    together=st.integers(1, 4),
    world_size=st.integers(1, 5),
    seed=st.integers(0, 99),
    epochs=st.integers(1, 3),
)
def test_all_processes_together_see_every_sample_once_an_epoch(
    sizes: list[int], together: int, world_size: int, seed: int, epochs: int
) -> None:
    source = archives(sizes, shards_together=together)
    seen: dict[int, Counter[tuple[int, int]]] = {epoch: Counter() for epoch in range(epochs)}
    for rank in range(world_size):
        for draw, _ in walk(mixed([source], seed=seed, rank=rank, world_size=world_size, epochs=epochs)):
            seen[draw.epoch][draw.shard, draw.item] += 1
    assert all(counted == all_clips(source) for counted in seen.values())


@given(count=st.integers(1, 40), world_size=st.integers(1, 6), seed=st.integers(0, 99), draws=st.integers(1, 60))
def test_no_sample_comes_twice_in_an_epoch_wherever_one_stops(
    count: int, world_size: int, seed: int, draws: int
) -> None:
    source = table(count)
    seen = Counter(
        (draw.epoch, draw.shard)
        for rank in range(world_size)
        for draw in first(mixed([source], seed=seed, rank=rank, world_size=world_size), draws)
    )
    assert set(seen.values()) == {1}
    # And none of an epoch is left out: as many as were drawn are the first ones of the endless row.
    assert sum(1 for epoch, _ in seen if epoch == 0) == min(count, world_size * draws)


@given(
    sizes=SHARDS,
    together=st.integers(1, 3),
    tables=st.lists(st.integers(1, 9), max_size=2),
    stop=st.integers(0, 300),
    rank=st.integers(0, 2),
)
def test_a_position_is_all_that_is_needed_to_go_on(
    sizes: list[int], together: int, tables: list[int], stop: int, rank: int
) -> None:
    def anew() -> MixedOrder:
        sources = [archives(sizes, shards_together=together), *(table(count) for count in tables)]
        weights = [1.0, 0.3, 2.5][: len(sources)]
        return mixed(sources, weights, rank=rank, world_size=3)

    steps = list(itertools.islice(walk(anew()), stop + 30))
    position = steps[stop - 1][1] if stop else anew().start()
    again = [draw for draw, _ in itertools.islice(walk(anew(), position), 30)]
    assert again == [draw for draw, _ in steps[stop:]]


@given(weights=st.lists(st.floats(0.01, 10), min_size=1, max_size=4), rank=st.integers(0, 3))
def test_shares_are_exact_to_a_draw_in_every_block(weights: list[float], rank: int) -> None:
    draws = first(mixed([table(7) for _ in weights], weights, rank=rank, world_size=4), 512)
    for length in (256, 512):
        counts = Counter(draw.source for draw in draws[:length])
        for index, weight in enumerate(weights):
            assert abs(counts[index] - length * weight / sum(weights)) <= len(weights)


def test_mixtures_are_random_and_differ_between_processes() -> None:
    sources = [table(1000), table(1000)]
    choices = [[draw.source for draw in first(mixed(sources, rank=rank, world_size=2), 64)] for rank in range(2)]
    assert choices[0] != choices[1]
    runs = [len(list(group)) for _, group in itertools.groupby(choices[0])]
    assert max(runs) > 2  # not a plain alternation


def test_epochs_have_different_orders_and_seeds_too() -> None:
    orders = [tuple(draw.shard for draw in first(mixed([table(20)], seed=seed), 40)) for seed in (0, 1)]
    assert orders[0][:20] != orders[0][20:]
    assert orders[0] != orders[1]
    assert sorted(orders[0][:20]) == sorted(orders[0][20:]) == list(range(20))


def test_without_shuffling_clips_come_in_order() -> None:
    draws = first(mixed([archives([2, 3], shards_together=2)], shuffle=False), 7)
    assert [(draw.epoch, draw.shard, draw.item) for draw in draws[:5]] == [
        (0, 0, 0),
        (0, 0, 1),
        (0, 1, 0),
        (0, 1, 1),
        (0, 1, 2),
    ]
    assert [draw.epoch for draw in draws[5:]] == [1, 1]


def test_archives_that_are_read_together_are_shuffled_into_each_other() -> None:
    draws = first(mixed([archives([10] * 4, shards_together=4)]), 40)
    assert len({draw.shard for draw in draws[:10]}) > 2


def test_damage_is_reported_once_and_not_again_after_a_resume() -> None:
    def anew() -> MixedOrder:
        return mixed([archives([2, 0, 3], damaged=[1, 2])], shuffle=False)

    order = anew()
    steps = list(itertools.islice(walk(order), 5))
    assert [problem.shard for problem in order.take_problems()] == [1, 2]
    assert order.take_problems() == []
    resumed = anew()
    assert resumed.next(steps[3][1]) == steps[4]
    assert resumed.take_problems() == []


def test_a_source_without_any_sample_is_an_error_not_an_endless_search() -> None:
    with pytest.raises(SourceError, match="stub: no shard has a readable sample"):
        mixed([archives([0, 0, 0])]).next(mixed([table(1)]).start())


def test_a_rare_source_continues_after_the_others_ended() -> None:
    draws = [draw for draw, _ in walk(mixed([table(3), table(20)], [1.0, 0.001], epochs=1))]
    assert Counter(draw.source for draw in draws) == {0: 3, 1: 20}
