import json
from pathlib import Path

import pytest

from tests.unit.training.tracking.test_run_comparison import write_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_run(tmp_path / "runs" / "first", {"low": [(1, 10, 3.0), (2, 20, 2.25)]}, finished=True)
    write_run(tmp_path / "runs" / "second", {"low": [(1, 10, 3.5)]})
    return tmp_path / "runs"


def test_a_table_of_runs(cli, folder):
    result = cli("runs", folder, "--metric", "loss", "--metric", "gauge_motion")
    assert result.exit_code == 0
    first, second = (line.split() for line in result.stdout.splitlines() if "first" in line or "second" in line)
    assert first == ["first", "finished", "2/100", "0.00", "10", "2.25", "5"]
    assert second == ["second", "low", "1/100", "0.00", "10", "3.5", "5"]


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
    ("arguments", "complaint"), [(["nowhere"], "is not a folder"), ([".", "--metric", "lss"], "has logged 'lss'")]
)
def test_bad_input_is_one_line(cli, folder, arguments, complaint):
    result = cli("runs", folder / arguments[0], *arguments[1:])
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_json_and_csv_are_all_that_is_printed(cli, folder, tmp_path):
    pytest.importorskip("matplotlib")
    result = cli("runs", folder, "--json", "--plot", tmp_path / "loss.png")
    assert [run["run"] for run in json.loads(result.stdout)] == ["first", "second"]
    lines = cli("runs", folder, "--csv", "-m", "loss").stdout.splitlines()
    assert [line.split(",")[-1] for line in lines] == ["loss", "2.25", "3.5"]


def test_several_metrics_are_drawn_smoothly_in_one_plot(cli, folder, tmp_path):
    pytest.importorskip("matplotlib")
    plot = tmp_path / "all.svg"
    result = cli("runs", folder, "-m", "loss", "-m", "gauge_motion", "--plot", plot, "--smooth", "0.9")
    assert f"{plot}: loss, validation/gauge_motion" in result.stdout
    assert "<!-- validation/gauge_motion -->" in plot.read_text()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--watch"], "needs a terminal"),
        (["--watch", "--json"], "cannot be combined"),
        (["--json", "--csv"], "cannot be combined"),
        (["--watch", "--plot", "a.png"], "nor --watch with --plot"),
        (["--smooth", "1"], "expected a number from 0 to 0.99"),
        (["--smooth", "-0.1"], "expected a number from 0 to 0.99"),
    ],
)
def test_options_that_do_not_go_together(cli, folder, options, complaint):
    result = cli("runs", folder, *options)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_run_that_cannot_be_read_hides_none_of_the_others(cli, folder, caplog):
    (folder / "second" / "config.json").write_text("[]")
    result = cli("runs", folder)
    assert result.exit_code == 0
    assert "first" in result.stdout
    assert any("second/config.json cannot be read" in message for message in caplog.messages)
