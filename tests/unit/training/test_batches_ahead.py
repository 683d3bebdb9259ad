import threading
from typing import Any

import pytest

from videocrafter.training.batches_ahead import BatchesAhead


class Asked:
    """A stand-in for a task that records which batches are requested, and by which thread."""

    def __init__(self, fails_at: tuple[int, int] | None = None) -> None:
        self.places: list[tuple[int, int]] = []
        self.threads: set[int] = set()
        self.asked = threading.Semaphore(0)
        self._fails_at = fails_at

    def batch(self, step: int, micro_step: int = 0) -> tuple[str, int, int]:
        self.places.append((step, micro_step))
        self.threads.add(threading.get_ident())
        self.asked.release()
        if (step, micro_step) == self._fails_at:
            raise ValueError("no such clip")
        return "batch", step, micro_step


class InOrder(Asked):
    def open_data(self, rank: int, world_size: int, report_folder: Any) -> None: ...
    def data_state(self) -> dict[str, Any]:
        return {}

    def load_data_states(self, states: Any) -> None: ...
    def close_data(self) -> None: ...


def take_steps(batches: BatchesAhead, micro_steps: range, steps: range, last: int) -> list[Any]:
    return [
        batches.take(step, micro, is_last=(step, micro) == (last, micro_steps[-1]))
        for step in steps
        for micro in micro_steps
    ]


@pytest.mark.parametrize("micro_steps", [range(1), range(3), range(1, 4, 2)], ids=str)
def test_each_batch_is_that_of_its_place_and_is_made_once(micro_steps: range) -> None:
    task = Asked()
    batches = BatchesAhead(task, micro_steps)
    places = [(step, micro) for step in range(5, 9) for micro in micro_steps]
    assert take_steps(batches, micro_steps, range(5, 9), last=8) == [("batch", *place) for place in places]
    batches.close()
    assert task.places == places, "and none behind the last"
    assert len(task.threads) == 1
    assert threading.get_ident() not in task.threads


def test_the_next_one_is_made_before_it_is_asked_for() -> None:
    task = Asked()
    batches = BatchesAhead(task, range(2))
    batches.take(0, 0, is_last=False)
    assert all(task.asked.acquire(timeout=60) for _ in range(2))
    assert task.places == [(0, 0), (0, 1)]
    batches.close()


def test_data_that_go_on_elsewhere_are_followed() -> None:
    task = Asked()
    batches = BatchesAhead(task, range(1))
    batches.take(0, 0, is_last=False)
    assert batches.take(7, 0, is_last=False) == ("batch", 7, 0)
    assert batches.take(8, 0, is_last=True) == ("batch", 8, 0)
    batches.close()
    assert task.places == [(0, 0), (1, 0), (7, 0), (8, 0)]


def test_what_goes_wrong_is_raised_where_the_batch_is_wanted() -> None:
    batches = BatchesAhead(Asked(fails_at=(1, 0)), range(1))
    batches.take(0, 0, is_last=False)
    with pytest.raises(ValueError, match="no such clip"):
        batches.take(1, 0, is_last=False)
    batches.close()


def test_a_task_that_reads_in_order_is_asked_for_no_more_than_is_needed() -> None:
    task = InOrder()
    batches = BatchesAhead(task, range(2))
    assert take_steps(batches, range(2), range(2), last=5) == [("batch", s, m) for s in range(2) for m in range(2)]
    batches.close()
    assert task.places == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert task.threads == {threading.get_ident()}
