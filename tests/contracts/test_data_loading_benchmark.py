"""The benchmark of the loader runs at toy size, and compares like with like."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks import data_loading

ROOT = Path(__file__).parents[2]


def test_the_loader_is_measured_against_bare_decoding(capsys: pytest.CaptureFixture[str]):
    data_loading.main(["--smoke", "--repeats", "1"])
    rows = [
        line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith(("| bare", "| loader"))
    ]
    assert [row[1].strip() for row in rows] == ["bare PyAV", "loader", "bare PyAV again"]
    assert all(float(row[3]) > 0 for row in rows)
    assert "`data_loading.py`" in (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")


def test_both_decode_the_same_moments(tmp_path: Path):
    given = data_loading.arguments(["--clips", "1", "--seconds", "2", "--height", "48", "--size", "32"])
    clips = data_loading.make_clips(tmp_path, given)
    work = list(data_loading.moments(clips, 5))
    assert [data_loading.decode_bare(one) for one in work] == [16] * 5
    assert all(np.diff(times).min() > 0 and times[-1] < 2 for _, times in work)
