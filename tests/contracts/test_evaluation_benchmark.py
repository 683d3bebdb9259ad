"""The benchmark of evaluations: parts of the time add up, and lost work and differing reports are found."""

import os
import time
from pathlib import Path

import pytest
from benchmarks import evaluation

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_killed_evaluation_loses_nothing(capsys: pytest.CaptureFixture[str]):
    evaluation.main(["--smoke"])
    printed = capsys.readouterr().out
    assert "1 kills: 0 faults" in printed
    assert "| networks |" in printed


def test_the_time_of_an_inner_part_counts_once(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: now[0])

    def spend(seconds: float) -> None:
        now[0] += seconds

    clock = evaluation._Clock()
    inner = clock.timed("networks", lambda: spend(2))

    def outer() -> None:
        spend(1)
        inner()
        inner()
        spend(4)

    clock.timed("metrics", outer)()
    assert (clock.seconds["networks"], clock.seconds["metrics"]) == (4, 5)
    assert sum(clock.seconds.values()) == now[0]


def test_results_that_were_measured_again_and_other_reports_are_found(tmp_path: Path):
    for name in ("one", "other"):
        (tmp_path / name / "results").mkdir(parents=True)
        for file in evaluation._REPORT_FILES:
            (tmp_path / name / file).write_text(file)
    (tmp_path / "one" / "report.json").write_text("changed")
    assert evaluation.differing(tmp_path / "one", tmp_path / "other") == ["report.json differs between two runs"]
    kept, changed = (tmp_path / "one" / "results" / f"{name}.json" for name in "ab")
    for path in (kept, changed):
        path.write_text("{}")
    before = evaluation._finished(tmp_path / "one")
    os.utime(changed, ns=(1, 1))
    assert evaluation._changed(before, tmp_path / "one") == ["b.json was measured again"]
    kept.unlink()
    assert len(evaluation._changed(before, tmp_path / "one")) == 2


def test_the_readme_describes_it():
    assert "`evaluation.py`" in (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
