"""The benchmark of the loader runs at toy size, and both sides decode the same frames."""

import random
from pathlib import Path

import numpy as np
import pytest
from benchmarks import data_loading

from videocrafter.data.cutting import CuttingConfig, _framer
from videocrafter.data.loader import VideoLoader
from videocrafter.media.video_reader import open_reader

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
    given = data_loading.arguments(["--clips", "3", "--seconds", "2", "--height", "48", "--size", "32"])
    given.samples, given.workers = 8, 0
    clips = data_loading.make_clips(tmp_path, given)
    work = list(data_loading.moments(clips, given))
    assert [data_loading.decode_bare(one) for one in work] == [16] * 8
    assert all(np.diff(times).min() > 0 and times[-1] < 2 for _, times in work)
    with VideoLoader(data_loading.loader_config(clips, given)) as loader:
        for _ in range(data_loading.BATCHES_BEFORE):
            next(loader)
        batches = [next(loader) for _ in range(2)]
    assert [Path(path).name for path, _ in work] == [
        key.rpartition("/")[2] for batch in batches for key in batch.keys
    ]
    # The fps determines the distance between frames, and the first frame the start of a sample.
    fps = [rate for batch in batches for rate in batch.fps.tolist()]
    assert np.allclose([1 / (times[1] - times[0]) for _, times in work], fps)
    firsts = [frames[0] for batch in batches for frames in (batch.pixels.numpy() + 1) / 2 * 255]
    framing = CuttingConfig(height=32, width=32)
    for (path, times), first in zip(work, firsts, strict=True):
        with open_reader(Path(path)) as reader:
            shown = reader.frames_at(times[:1], _framer(framing, random.Random(0)))[0]
        assert np.abs(shown.transpose(2, 0, 1) - first).max() < 1
