"""The preparation benchmarks run at toy size, and killed runs continue exactly."""

from pathlib import Path

import pytest
from benchmarks.preparation import covered, f1, matched, measure
from benchmarks.preparation_kills import kill_many
from benchmarks.truth_films import render


def test_matches_are_counted_once():
    assert matched([10, 11, 50], [10, 51, 90]) == 2
    assert covered([(5, 20), (30, 60), (31, 59)], [(10, 20), (30, 60)]) == 2
    assert f1(2, 3, 2) == pytest.approx(0.8)


def test_accuracy_is_measured_on_rendered_films(tmp_path):
    films = render(tmp_path, 1, 5, 90, 160)
    assert [film.copy_of for film in films] == ["", "film-00.mp4"]
    numbers = measure(tmp_path)
    assert numbers["hard cuts"] == len(films[0].cuts)
    assert numbers["F1 of hard cuts"] >= 0.8
    assert numbers["scan / decoding alone (CPU)"] > 1


@pytest.mark.slow
def test_killed_runs_continue_and_change_no_byte(tmp_path: Path):
    # With this seed, the kills come after 0.44 and 0.37 of the time that a whole run takes: both hit the same run.
    finished, different = kill_many(tmp_path, kills=2, engine="local", seed=192, films=2)
    assert finished >= 1
    assert different == []
