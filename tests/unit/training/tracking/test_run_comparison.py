import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.training.tracking.run_comparison import find_runs, summarise
from videocrafter.training.tracking.run_plots import plot_runs


def write_run(folder: Path, stages: dict[str, list[tuple[int, int, float]]], finished: bool = False) -> Path:
    """Write the folder of a run with the given (step, samples, loss) in each stage."""
    folder.mkdir(parents=True)
    config = {"name": "made", "stages": [{"name": name, "num_steps": 100} for name in stages]}
    (folder / "config.json").write_text(json.dumps(config))
    lines = []
    for stage, points in stages.items():
        lines.append({"stage": stage, "step": 0, "kind": "precision", "precision": "bf16"})
        for step, samples, loss in points:
            timing = {"samples_per_s": 10.0, "seconds": samples / 10}
            lines.append({"stage": stage, "step": step, "kind": "train", "loss": loss, "samples": samples, **timing})
        lines.append({"stage": stage, "step": points[-1][0], "kind": "validation", "gauge_motion": 5.0})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        (folder / "final").mkdir()
    return folder


def test_stages_follow_each_other_in_a_curve(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", {"low": [(1, 10, 3.0), (2, 20, 2.0)], "high": [(1, 30, 2.5), (2, 60, 1.0)]})
    run = summarise(folder, "a")
    assert (run.recipe, run.stage, run.step, run.num_steps, run.finished) == ("made", "high", 2, 100, False)
    assert run.curves["loss"].samples == (10, 20, 50, 80)
    assert run.curves["loss"].values == (3.0, 2.0, 2.5, 1.0)
    assert run.curves["validation/gauge_motion"].samples == (20, 80)
    assert (run.samples, run.seconds, run.latest("samples_per_s")) == (80, 8.0, 10.0)
    assert (run.latest("loss"), run.latest("other")) == (1.0, None)


def test_runs_are_found_where_they_lie_and_not_in_what_they_wrote(tmp_path: Path) -> None:
    write_run(tmp_path / "b" / "one", {"low": [(1, 10, 3.0)]}, finished=True)
    write_run(tmp_path / "two", {"low": [(1, 10, 3.0)]})
    write_run(tmp_path / "two" / "checkpoints" / "not-a-run", {"low": [(1, 10, 3.0)]})
    runs = find_runs(tmp_path)
    assert [(run.name, run.finished) for run in runs] == [("b/one", True), ("two", False)]
    assert [run.name for run in find_runs(tmp_path / "two")] == ["two"]


def test_a_half_written_last_line_is_passed_over(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", {"low": [(1, 10, 3.0)]})
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"stage": "low", "step": 2, "ki')
    assert summarise(folder, "a").step == 1


def test_a_run_that_has_logged_nothing_stands_at_its_beginning(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", {"low": [(1, 10, 3.0)]})
    (folder / "log.jsonl").write_text("")
    run = summarise(folder, "a")
    assert (run.stage, run.step, run.samples, run.curves) == ("low", 0, 0, {})


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contains no run"):
        find_runs(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        find_runs(tmp_path / "nothing")
    folder = write_run(tmp_path / "a", {"low": [(1, 10, 3.0)]})
    (folder / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json cannot be read"):
        find_runs(tmp_path)


def test_a_plot_shows_every_run_that_has_the_metric(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_run(tmp_path / "a", {"low": [(1, 10, 3.0), (2, 20, 2.0)]})
    write_run(tmp_path / "b", {"low": [(1, 10, 3.5), (2, 20, 2.5)]})
    runs = find_runs(tmp_path)
    plot_runs(runs, ["loss"], tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert text.count("clip-path") >= 2
    with pytest.raises(ValueError, match=r"no run has logged 'los'; known metrics: .*loss"):
        plot_runs(runs, ["los"], tmp_path / "other.svg")


values = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3) | st.lists(st.integers())
lines = st.fixed_dictionaries(
    {
        "stage": st.sampled_from(["low", "high", "other"]),
        "step": values | st.integers(0, 99),
        "kind": st.sampled_from(["train", "validation"]),
    },
    optional={"loss": values, "samples": values, "seconds": values, "samples_per_s": values},
)


@given(st.lists(lines | values, max_size=8), st.integers(0, 20))
def test_no_log_is_too_odd_for_a_summary(
    tmp_path_factory: pytest.TempPathFactory, found: list[Any], cut: int
) -> None:
    folder = write_run(tmp_path_factory.mktemp("runs") / "a", {"low": [(1, 10, 3.0)], "high": [(1, 10, 3.0)]})
    with (folder / "log.jsonl").open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in found)[: -cut or None])
    run = summarise(folder, "a")
    assert run.samples >= 0
    assert math.isfinite(run.seconds)
    assert run.curves["loss"].values[:2] == (3.0, 3.0)
    assert all(len(curve.samples) == len(curve.values) for curve in run.curves.values())


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"stages": []}', '{"name": "a", "stages": []}', '{"name": "a", "stages": [{"name": "low"}]}']
)
def test_a_configuration_that_is_damaged_is_named(tmp_path: Path, text: str) -> None:
    folder = write_run(tmp_path / "a", {"low": [(1, 10, 3.0)]})
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json cannot be read \(.+\); check that it is the folder of a run"):
        summarise(folder, "a")
