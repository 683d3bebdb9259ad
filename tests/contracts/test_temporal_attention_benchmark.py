"""The benchmark of temporal attention runs at toy size, and its former computation gives the same result."""

from functools import partial
from pathlib import Path

import pytest
import torch
from benchmarks import temporal_attention as benchmark

from videocrafter.models.attention import temporal_attention

README = (Path(__file__).parents[2] / "benchmarks" / "README.md").read_text(encoding="utf-8")


def test_every_variant_has_a_row(capsys: pytest.CaptureFixture[str]):
    benchmark.main(["--smoke", "--repeats", "1"])
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "CPU seconds |" in line]
    assert [row[1].strip() for row in rows] == [
        "no positions",
        "relative positions",
        "no positions, five dimensions",
        "relative positions, five dimensions",
        "no positions again",
    ]
    assert "`temporal_attention.py`" in README


@pytest.mark.parametrize("relative_distance", [None, 3])
def test_the_former_computation_gives_the_same_result(relative_distance: int | None):
    attention = temporal_attention(12, 3, 8, relative_distance).double()
    former = partial(benchmark.in_five_dimensions, attention)
    x = torch.randn(2, 5, 4, 12, dtype=torch.float64)
    torch.testing.assert_close(attention(x), former(x), atol=1e-10, rtol=0)
