"""The benchmark of plans runs at toy size, and all its runs are valid recipes and settings."""

import argparse
from pathlib import Path

import pytest
from benchmarks import plan

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is measured on Linux only")
def test_a_run_is_planned_and_measured(capsys: pytest.CaptureFixture[str]):
    plan.main(["--smoke", "--runs", "reduced, fp32"])
    (row,) = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| reduced")]
    assert [cell.strip() for cell in row[1:3]] == ["reduced, fp32", "pass over clips"]
    assert float(row[3]) > 0
    assert float(row[4]) > 0


@pytest.mark.parametrize("name", plan.RUNS)
def test_every_run_is_a_recipe_with_its_settings(name: str, tmp_path: Path):
    given = argparse.Namespace(folder=tmp_path, smoke=False, toy=False, size=64, frames=4, batch=1)
    (stage,) = plan.configured(name, given).stages
    assert (stage.num_steps, stage.sample_every, stage.validate_every) == (2, 0, 0)
    assert stage.precision == ("bf16" if "bf16" in name and "moments" not in name else "fp32")


def test_the_readme_describes_it():
    assert "`plan.py`" in (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
