from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_clips import SPRITES, clip_data
from videocrafter.data.loader import VideoLoader
from videocrafter.data.sample import VideoBatch
from videocrafter.training.batch_reader import BatchReader, read_data_states, write_data_states


class CountingLoader:
    """A loader whose batches and positions are numbers."""

    def __init__(self, length: int = 10**6) -> None:
        self.given, self.closed, self._length = 0, False, length

    def __next__(self) -> VideoBatch:
        if self.given >= self._length:
            raise StopIteration
        self.given += 1
        return batch_of(self.given - 1)

    def state_dict(self) -> dict[str, Any]:
        return {"next": self.given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.given = state["next"]

    def close(self) -> None:
        self.closed = True


def batch_of(number: int) -> VideoBatch:
    return VideoBatch(
        pixels=torch.zeros(1, 1, 3, 2, 2), captions=(f"caption {number}",), fps=torch.ones(1), keys=(str(number),)
    )


# Steps go up by any amount (data go on behind bad batches); a process of several makes only some of the passes.
places = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), unique=True, max_size=20).map(sorted)


@given(places=places, again=st.lists(st.integers(0, 3), max_size=20), cut=st.integers(0, 20))
def test_each_new_pass_gets_the_next_batch_and_a_break_changes_nothing(
    places: list[tuple[int, int]], again: list[int], cut: int
) -> None:
    loader = CountingLoader()
    reader = BatchReader(loader)  # type: ignore[arg-type]
    for number, place in enumerate(places):
        if number == cut:
            state = json.loads(json.dumps(reader.state()))
            loader = CountingLoader()
            reader = BatchReader(loader)  # type: ignore[arg-type]
            reader.load([state])
        batch = reader.batch(*place)
        assert batch.keys == (str(number),)
        for _ in range(again[number] if number < len(again) else 0):
            assert reader.batch(*place) is batch
        assert reader.state() == {"next": number + 1}
    assert loader.given == len(places)


@given(places=places.filter(lambda found: len(found) > 1), back=st.integers(1, 19))
def test_data_do_not_go_back(places: list[tuple[int, int]], back: int) -> None:
    loader = CountingLoader()
    reader = BatchReader(loader)  # type: ignore[arg-type]
    for place in places:
        reader.batch(*place)
    earlier = places[max(0, len(places) - 1 - back)]
    with pytest.raises(RuntimeError, match=f"step {earlier[0]}, pass {earlier[1]} was already read"):
        reader.batch(*earlier)
    assert loader.given == len(places)


def test_only_the_last_batch_is_kept_in_memory() -> None:
    import gc
    import weakref

    reader = BatchReader(CountingLoader())  # type: ignore[arg-type]
    first = weakref.ref(reader.batch(0, 0).pixels)
    assert first() is not None
    reader.batch(0, 1)
    gc.collect()
    assert first() is None


def test_closing_closes_the_loader() -> None:
    loader = CountingLoader()
    BatchReader(loader).close()  # type: ignore[arg-type]
    assert loader.closed


def drawn(reader: BatchReader, first_step: int, count: int) -> list[str]:
    return [key for step in range(first_step, first_step + count) for key in reader.batch(step, 0).keys]


def opened(rank: int = 0, world_size: int = 1) -> BatchReader:
    data = clip_data(SPRITES.replace("num_clips=9", "num_clips=24"), seed=3)
    return BatchReader(VideoLoader(data, rank=rank, world_size=world_size), rank=rank, world_size=world_size)


def test_a_real_loader_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = opened()
    wanted = drawn(whole, 0, 8)
    begun = opened()
    assert drawn(begun, 0, 3) == wanted[:6]
    write_data_states(tmp_path, [begun.state()])
    resumed = opened()
    resumed.load(read_data_states(tmp_path))
    assert drawn(resumed, 3, 5) == wanted[6:]
    assert begun.stats().batches == 3
    for reader in (whole, begun, resumed):
        reader.close()


@pytest.mark.parametrize("now", [1, 3])
def test_another_number_of_processes_goes_on_without_seeing_a_clip_twice(tmp_path: Path, now: int) -> None:
    """24 clips: two processes read 2 batches of 2 each, then another number of processes reads the rest."""
    before = [opened(rank, 2) for rank in range(2)]
    seen = [key for reader in before for key in drawn(reader, 0, 2)]
    write_data_states(tmp_path, [reader.state() for reader in before])
    after = [opened(rank, now) for rank in range(now)]
    for reader in after:
        reader.load(read_data_states(tmp_path))
    seen += [key for reader in after for key in drawn(reader, 2, 6 // now)]
    assert len(seen) == len(set(seen)) == 8 + 12
    for reader in (*before, *after):
        reader.close()


def test_a_position_in_other_data_is_refused(tmp_path: Path) -> None:
    write_data_states(tmp_path, [opened().state()])
    other = BatchReader(VideoLoader(clip_data(SPRITES, seed=3)))
    with pytest.raises(ValueError, match="num_shards of source sprites:0/video was 24 and is 9"):
        other.load(read_data_states(tmp_path))
