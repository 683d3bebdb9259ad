import resource
import sys
from types import SimpleNamespace

import pytest
import torch

from videocrafter.training.parallel.peak_memory import peak_memory


@pytest.mark.parametrize(("platform", "told", "bytes_"), [("linux", 3000, 3_072_000), ("darwin", 3000, 3000)])
def test_main_memory_in_bytes_on_every_system(
    monkeypatch: pytest.MonkeyPatch, platform: str, told: int, bytes_: int
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=told))
    assert peak_memory(torch.device("cpu")) == bytes_


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory(torch.device("cpu")) == 0


def test_a_gpu_is_asked_for_what_was_held_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7 if str(device) == "cuda:1" else 0)
    assert peak_memory(torch.device("cuda:1")) == 7
