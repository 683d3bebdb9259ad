import math
from pathlib import Path

import pytest

from tests.unit.training.tracking.test_run_comparison import write_run
from videocrafter.training.tracking.run_comparison import find_runs
from videocrafter.training.tracking.run_plots import plot_runs, smoothed


def test_smoothing_is_a_mean_that_forgets() -> None:
    assert smoothed([1.0, 3.0, 2.0], 0.0) == [1.0, 3.0, 2.0]
    assert smoothed([1.0, 3.0], 0.5) == [1.0, (0.5 * 1 + 3) / 1.5]
    assert smoothed([4.0] * 5, 0.9) == pytest.approx([4.0] * 5)
    assert smoothed([], 0.9) == []


def test_what_is_no_number_leaves_the_mean_as_it_was() -> None:
    values = smoothed([1.0, math.nan, math.inf, 3.0], 0.5)
    assert math.isnan(values[1])
    assert values[2] == math.inf
    assert [values[0], values[3]] == smoothed([1.0, 3.0], 0.5)


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_each_metric_has_a_field_of_its_own(tmp_path: Path, count: int) -> None:
    pytest.importorskip("matplotlib")
    write_run(tmp_path / "a", {"low": [(1, 10, 3.0), (2, 20, 2.0)]})
    write_run(tmp_path / "b", {"low": [(1, 10, math.nan)]})
    metrics = ["loss", "validation/gauge_motion", "samples_per_s", "loss", "loss"][:count]
    plot_runs(find_runs(tmp_path), metrics, tmp_path / "plot.svg", smooth=0.5)
    text = (tmp_path / "plot.svg").read_text()
    assert [text.count(f"<!-- {metric} -->") for metric in metrics] == [metrics.count(metric) for metric in metrics]


def test_a_metric_that_no_run_has_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    write_run(tmp_path / "a", {"low": [(1, 10, 3.0)]})
    with pytest.raises(ValueError, match="no run has logged 'los'"):
        plot_runs(find_runs(tmp_path), ["loss", "los"], tmp_path / "plot.svg")
    assert not (tmp_path / "plot.svg").exists()
