from pathlib import Path

import pytest

from tests.unit.training.test_comparison import write_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_run(tmp_path / "runs" / "first", {"low": [(1, 10, 3.0), (2, 20, 2.25)]}, finished=True)
    write_run(tmp_path / "runs" / "second", {"low": [(1, 10, 3.5)]})
    return tmp_path / "runs"


def test_a_table_of_runs(cli, folder):
    result = cli("runs", folder, "--metric", "loss", "--metric", "gauge_motion")
    assert result.exit_code == 0
    first, second = (line.split() for line in result.stdout.splitlines() if "first" in line or "second" in line)
    assert first == ["first", "finished", "2/100", "0.00", "10.0", "2.25", "5"]
    assert second == ["second", "low", "1/100", "0.00", "10.0", "3.5", "5"]


def test_a_plot_is_written_and_never_replaced_unasked(cli, folder, tmp_path):
    pytest.importorskip("matplotlib")
    plot = tmp_path / "loss.png"
    assert cli("runs", folder, "--plot", plot).exit_code == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    refused = cli("runs", folder, "--plot", plot)
    assert refused.exit_code == 2
    assert "exists" in refused.stderr
    assert cli("runs", folder, "--plot", plot, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"), [(["nowhere"], "is no folder"), ([".", "--metric", "lss"], "has logged 'lss'")]
)
def test_bad_input_is_one_line(cli, folder, arguments, complaint):
    result = cli("runs", folder / arguments[0], *arguments[1:])
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
