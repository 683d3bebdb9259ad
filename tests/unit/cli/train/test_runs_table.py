import csv
import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from tests.unit.training.tracking.test_run_comparison import write_run
from videocrafter.cli.train.runs_table import as_csv, as_json, full_name, runs_table, usual_metrics
from videocrafter.training.tracking.run_comparison import RunSummary, find_runs


@pytest.fixture
def runs(tmp_path: Path) -> list[RunSummary]:
    """A running recipe on clips, and a finished run of an older version."""
    write_run(tmp_path / "old", {"low": [(1, 10, 3.5)]}, finished=True)
    folder = write_run(tmp_path / "new", {"low": [(1, 1_234_567, 3.0)]})
    rates = {"samples_per_s": 12.0, "data_wait_share": 0.25, "peak_memory_gib": 30.25, "seconds": 7200}
    losses = {"loss": 0.75, "loss_clips": 0.5, "loss_images": 1.0}
    lines = [
        {"kind": "train", "step": 50, "samples": 2_000_000, **losses, **rates},
        {"kind": "validation", "step": 50, "loss": 0.625, "loss_t050": math.nan},
    ]
    with (folder / "log.jsonl").open("a") as file:
        file.writelines(json.dumps({"stage": "low", **line}) + "\n" for line in lines)
    return find_runs(tmp_path)


def shown(runs: list[RunSummary], metrics: list[str], width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(runs_table(runs, metrics, width=width))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_what_one_looks_at_first(runs: list[RunSummary]) -> None:
    assert usual_metrics(runs) == ["loss_clips", "loss_images", "validation/loss"]
    assert usual_metrics(runs[1:]) == ["loss"]
    assert usual_metrics([]) == []


def test_the_losses_the_wait_and_the_memory_have_columns(runs: list[RunSummary]) -> None:
    new, old = shown(runs, usual_metrics(runs), 120)[-2:]
    assert new.split() == ["new", "low", "50/100", "2,000,000", "2.00", "12", "25", "30.2", "0.5", "1", "0.625"]
    assert old.split() == ["old", "finished", "1/100", "10", "0.00", "10", "–", "–", "–", "–", "–"]


def test_a_narrow_terminal_cuts_nothing(runs: list[RunSummary]) -> None:
    lines = shown(runs, usual_metrics(runs), 80)
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    assert lines[-2].split() == ["new", "low", "50/100", "2.00", "12", "25", "30.2", "0.5", "1", "0.625"]


def test_runs_of_an_older_version_have_no_empty_columns(runs: list[RunSummary]) -> None:
    head = " ".join(shown(runs[1:], ["loss"], 120)[0].split())
    assert head == "run stage step samples hours samples/s loss"


def test_json_has_every_metric_or_those_that_are_asked_for(runs: list[RunSummary]) -> None:
    new, old = json.loads(as_json(runs, None), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert new["run"], old["finished"] == ("new", True)
    assert new["seconds"] == 7200
    assert new["metrics"]["validation/loss_t050"] is None
    assert new["metrics"]["data_wait_share"] == 0.25
    (new, old) = json.loads(as_json(runs, ["loss_clips"]))
    assert (new["metrics"], old["metrics"]) == ({"loss_clips": 0.5}, {"loss_clips": None})


def test_csv_has_a_line_for_each_run(runs: list[RunSummary]) -> None:
    new, old = csv.DictReader(io.StringIO(as_csv(runs, ["loss_clips", "loss"])))
    assert (new["run"], new["loss_clips"], new["loss"]) == ("new", "0.5", "0.75")
    assert (old["run"], old["loss_clips"], old["loss"]) == ("old", "", "3.5")
    assert "validation/gauge_motion" in as_csv(runs, None).splitlines()[0]


@pytest.mark.parametrize("metrics", [None, ["samples_per_s"], ["loss", "loss"]])
def test_csv_has_no_column_twice(runs: list[RunSummary], metrics: list[str] | None) -> None:
    head, new, old = csv.reader(io.StringIO(as_csv(runs, metrics)))
    assert len(head) == len(set(head)) == len(new) == len(old)
    assert dict(zip(head, new, strict=True))["samples_per_s"] == "12.0"


def test_names_of_metrics(runs: list[RunSummary]) -> None:
    assert full_name(runs, "loss") == "loss"
    assert full_name(runs, "gauge_motion") == "validation/gauge_motion"
    with pytest.raises(ValueError, match="no run has logged 'x'; known metrics: data_wait_share, loss"):
        full_name(runs, "x")
