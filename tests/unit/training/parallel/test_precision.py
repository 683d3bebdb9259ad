"""Timing of the precisions. The choice in a run is tested in `test_run.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_task import ToyTask, ToyTaskConfig

from videocrafter.training.parallel import precision
from videocrafter.training.parallel.precision import choose_precision
from videocrafter.training.task import ReadsInOrder

CPU = torch.device("cpu")


class InOrder(ToyTask):
    """The toy task with sequential data."""

    def __init__(self) -> None:
        super().__init__(ToyTaskConfig(), None, 0, 0, CPU)
        self.asked: list[tuple[int, int]] = []

    def batch(self, step: int, micro_step: int = 0) -> tuple[int, torch.Tensor]:
        self.asked.append((step, micro_step))
        return super().batch(step, micro_step)

    def open_data(self, rank: int, world_size: int, report_folder: Path) -> None: ...

    def data_state(self) -> dict[str, Any]:
        return {}

    def load_data_states(self, states: Sequence[dict[str, Any]]) -> None: ...

    def close_data(self) -> None: ...


@pytest.fixture
def has_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU with bf16 instructions."""
    monkeypatch.setattr(precision, "emulates_bf16", lambda: False)


@pytest.mark.parametrize("micro_step", [0, 3])
@pytest.mark.usefixtures("has_instructions")
def test_data_in_order_are_not_read_beyond_the_first_pass(micro_step: int) -> None:
    task = InOrder()
    assert isinstance(task, ReadsInOrder)
    choice = choose_precision("auto", task, CPU, micro_step)
    assert choice.fp32_seconds is not None
    assert task.asked == [(0, micro_step)]


@pytest.mark.parametrize("wanted", ["fp32", "bf16"])
def test_a_precision_that_is_asked_for_is_not_timed(wanted: Any) -> None:
    task = InOrder()
    assert choose_precision(wanted, task, CPU).precision == wanted
    assert task.asked == []


@pytest.mark.usefixtures("has_instructions")
@pytest.mark.parametrize(("fp32", "bf16", "chosen"), [(1.0, 0.9, "bf16"), (1.0, 0.98, "fp32"), (1.0, 1.5, "fp32")])
def test_bf16_has_to_gain_something(monkeypatch: pytest.MonkeyPatch, fp32: float, bf16: float, chosen: str) -> None:
    seconds = {"fp32": fp32, "bf16": bf16}
    monkeypatch.setattr(precision, "_seconds_of_pass", lambda *given: seconds[given[-1]])
    choice = choose_precision("auto", InOrder(), CPU)
    assert (choice.precision, choice.fp32_seconds, choice.bf16_seconds) == (chosen, fp32, bf16)


@pytest.mark.parametrize(
    ("machine", "avx512", "amx", "timed"),
    [
        ("x86_64", False, False, False),
        ("AMD64", False, False, False),
        ("x86_64", True, False, True),
        ("x86_64", False, True, True),
        ("arm64", False, False, True),
    ],
)
def test_a_cpu_without_instructions_for_bf16_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, machine: str, avx512: bool, amx: bool, timed: bool
) -> None:
    monkeypatch.setattr(precision.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    task = InOrder()
    choice = choose_precision("auto", task, CPU)
    assert bool(task.asked) == (choice.bf16_seconds is not None) == timed
    assert timed or choice.precision == "fp32"


def test_a_torch_that_cannot_tell_has_its_cpu_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision.platform, "machine", lambda: "x86_64")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert choose_precision("auto", InOrder(), CPU).bf16_seconds is not None
