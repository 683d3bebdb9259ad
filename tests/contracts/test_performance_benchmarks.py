"""The benchmarks of operations, operators and memory run at toy size."""

from pathlib import Path

import pytest
from benchmarks import fewer_passes, generation_memory, operations, operators

README = (Path(__file__).parents[2] / "benchmarks" / "README.md").read_text(encoding="utf-8")


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"][
        2:
    ]


def test_operations_add_up(capsys: pytest.CaptureFixture[str]):
    operations.main(["--smoke"])
    (row,) = cells(capsys.readouterr().out)
    assert row[0] == "tiny-t2v, 128x128"
    assert sum(map(float, row[2:6])) == pytest.approx(100, abs=1)
    assert all(0 < float(value) < 1 for value in row[6:8])
    network = operations.network_on_meta("t2v-512")
    parts = operations.operations(network, 64, 64, branches=1)
    both = operations.operations(network, 64, 64, branches=2)
    assert sum(parts.values()) < sum(both.values()) < 2 * sum(parts.values())
    assert both["conv_in"] == parts["conv_in"]
    assert both["conv_out"] == 2 * parts["conv_out"]


def test_operators_are_shares_of_the_whole(capsys: pytest.CaptureFixture[str]):
    operators.main(["--smoke", "--repeats", "1"])
    (row,) = cells(capsys.readouterr().out)
    assert sum(map(float, row[1:8])) == pytest.approx(100, abs=1)
    assert all(float(value) > 0 for value in row[8:])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is measured on Linux only")
def test_memory_is_measured_in_fresh_processes(capsys: pytest.CaptureFixture[str]):
    generation_memory.main(["--smoke"])
    loading, generation = cells(capsys.readouterr().out)
    assert loading[0] == "loading"
    assert generation[1] == "4x64x64"
    assert min(float(loading[2]), float(generation[2])) > 0


def test_slopes_are_bytes_per_pixel_and_frame():
    measured = {"8x10x10": 1_000, "16x10x10": 9_000, "16x10x20": 25_000}
    frames, pixels = generation_memory.slopes(measured)
    assert frames == "bytes per pixel and frame with more frames at 10x10: 10"
    assert pixels == "bytes per pixel and frame with more pixels at 16: 10"


@pytest.mark.parametrize("script", ["fewer_passes", "generation_memory", "operations", "operators"])
def test_the_readme_describes_it(script: str):
    assert f"`{script}.py`" in README
    assert f"python -m benchmarks.{script}" in README


def test_fewer_passes_are_compared_at_equal_operations(capsys: pytest.CaptureFixture[str]):
    fewer_passes.main(["--smoke"])
    plain, cache = cells(capsys.readouterr().out)
    assert float(plain[2]) == pytest.approx(2, abs=0.01)
    assert 2 < float(cache[2]) < 9
    assert min(float(plain[3]), float(cache[3])) > 0
