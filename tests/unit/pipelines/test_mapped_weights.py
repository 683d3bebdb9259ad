"""Weights that are mapped from a file leave main memory and come back; all others stay."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from videocrafter.pipelines.mapped_weights import page_out

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the mappings of a process are read from Linux's /proc"
)


def resident(path: Path) -> int:
    """KiB of a file's mappings in main memory."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if "-" in line.split()[0] and ":" not in line.split()[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


def network(weight: torch.Tensor) -> nn.Module:
    made = nn.Linear(1, 1, bias=False)
    made.weight = nn.Parameter(weight, requires_grad=False)
    return made


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    weight = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0))
    save_file({"weight": weight}, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors", weight


def test_mapped_weights_leave_memory_and_come_back(
    stored: tuple[Path, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, weight = stored
    mapped = network(load_file(path)["weight"])
    assert torch.equal(mapped.weight, weight)
    before = resident(path)
    page_out([mapped])
    assert resident(path) == before > 4000, "too small to be worth it"
    monkeypatch.setattr("videocrafter.pipelines.mapped_weights.SMALLEST", 1)
    page_out([mapped])
    if resident(path) == before:
        pytest.skip("this kernel does not page out")
    assert resident(path) < 0.1 * before
    assert torch.equal(mapped.weight, weight)


def test_changed_weights_are_kept(stored: tuple[Path, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("videocrafter.pipelines.mapped_weights.SMALLEST", 1)
    path, weight = stored
    merged, copied = network(load_file(path)["weight"]), network(weight.clone())
    merged.weight.add_(1)
    page_out([merged, copied])
    assert torch.equal(merged.weight, weight + 1)
    assert torch.equal(copied.weight, weight)
