import logging
from pathlib import Path

import pytest
from toy_run import toy_recipe

from videocrafter.training.run import train
from videocrafter.training.tracking import observers as module
from videocrafter.training.tracking.log import read_log
from videocrafter.training.tracking.observers import Observers
from videocrafter.training.tracking.trackers import TrackerChoice

NOBODY = TrackerChoice(tensorboard=False)


def observe(output: Path, choice: TrackerChoice = NOBODY, *, is_main: bool = True) -> Observers:
    return Observers(toy_recipe(), output, choice, plain=True, is_main=is_main)


def test_lines_of_steps_that_are_done_again_are_taken_out(tmp_path: Path) -> None:
    with observe(tmp_path) as observers:
        with observers.stage("low (1/2)", "low", 0, is_new=True, reads_files=False) as (log, view):
            assert log is not None
            assert view is not None
            for step in (5, 10, 15):
                log.write(step, "train", {"loss": 1.0})
        with observers.stage("low (1/2)", "low", 10, is_new=False, reads_files=False):
            assert [line["step"] for line in read_log(tmp_path)] == [5, 10]
        with observers.stage("low (1/2)", "low", 0, is_new=True, reads_files=False):
            assert read_log(tmp_path) == []


def test_other_processes_than_the_main_one_write_nothing(tmp_path: Path) -> None:
    with (
        observe(tmp_path, TrackerChoice(others=(("wandb", "p"),)), is_main=False) as observers,
        observers.stage("low (1/2)", "low", 0, is_new=True, reads_files=True) as pair,
    ):
        assert pair == (None, None)
    assert list(tmp_path.iterdir()) == []


def test_only_a_stage_that_reads_files_is_warned_of_waiting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with observe(tmp_path) as observers:
        for reads_files in (False, True):
            caplog.clear()
            with observers.stage("low", "low", 0, is_new=True, reads_files=reads_files) as (log, _):
                assert log is not None
                for step in range(8):
                    log.write(step, "train", {"loss": 1.0, "data_wait_share": 0.9})
            assert len(caplog.messages) == reads_files


@pytest.mark.parametrize("error", [ImportError("no module"), PermissionError("not yours")])
def test_without_tensorboard_a_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "TensorBoard", refuse)
    assert train(toy_recipe(), tmp_path / "run").finished
    assert any("the log is only written to log.jsonl" in message for message in caplog.messages)


def test_a_run_shows_its_sheets_and_numbers_in_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(toy_recipe(), tmp_path / "run")
    assert {path.parent.name for path in (tmp_path / "run/tensorboard").rglob("events.*")} == {"low", "high"}
