from __future__ import annotations

import pytest
import torch

from videocrafter.training.parallel import processes as processes_module
from videocrafter.training.parallel.processes import Processes, check_shared


def test_micro_steps_are_shared_evenly_or_not_at_all() -> None:
    processes = Processes("cpu")
    processes.index, processes.count = 1, 2
    assert list(processes.micro_steps(4)) == [1, 3]
    with pytest.raises(ValueError, match=r"accumulate is 3, expected a multiple of 2, .* set it to 4"):
        check_shared(3, 2)


def test_alone_everything_is_as_it_is() -> None:
    processes = Processes("cpu")
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.full((2,), 3.0)
    processes.average_gradients([parameter])
    assert parameter.grad.tolist() == [3.0, 3.0]
    assert processes.is_main
    assert (processes.any(True), processes.any(False)) == (True, False)
    with pytest.raises(OSError, match="full"), processes.together():
        raise OSError("the disk is full")


def test_buckets_are_neighbours_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes_module, "BUCKET_ELEMENTS", 5)
    tensors = [torch.zeros(size) for size in (2, 3, 1, 9, 4)]
    assert [[t.numel() for t in bucket] for bucket in processes_module._buckets(tensors)] == [[2, 3], [1], [9], [4]]
