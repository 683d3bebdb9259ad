"""Trackers are tested through accelerate's classes, with fake modules for W&B and trackio."""

from __future__ import annotations

import importlib.machinery
import json
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from toy_run import toy_recipe

from videocrafter.training.config import SettingsError
from videocrafter.training.run import train
from videocrafter.training.tracking import trackers as module
from videocrafter.training.tracking.trackers import TrackerChoice, Trackers, choose_trackers


class FakeRun:
    def __init__(self, step: int) -> None:
        self.step, self.logged, self.finished = step, [], False
        self.fail: Callable[[], None] = lambda: None

    def log(self, values: dict[str, Any], step: int) -> None:
        self.fail()
        self.logged.append((step, values))
        self.step = step

    def finish(self) -> None:
        self.finished = True


class FakeModule(types.ModuleType):
    """The parts of wandb and trackio that accelerate and this package use."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None, origin="made up")
        self.asked: list[dict[str, Any]] = []
        self.runs: list[FakeRun] = []
        self.config = types.SimpleNamespace(update=lambda values, allow_val_change: self.configs.append(values))
        self.configs: list[dict[str, Any]] = []
        self.first_step = 0
        self.Image = lambda path: ("image", Path(path).name)
        self.Video = lambda path, **options: ("video", Path(path).name, options["format"])

    def init(self, **options: Any) -> FakeRun:
        self.asked.append(options)
        self.runs.append(FakeRun(self.first_step))
        return self.runs[-1]


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeModule:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return install("wandb", monkeypatch)


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch) -> FakeModule:
    return install("trackio", monkeypatch)


def install(name: str, monkeypatch: pytest.MonkeyPatch) -> FakeModule:
    fake = FakeModule(name)
    monkeypatch.setitem(sys.modules, name, fake)
    return fake


def follow(names: list[str], output: Path, *lines: tuple[str, int, str, dict[str, Any]]) -> None:
    with Trackers(choose_trackers(names).others, toy_recipe(), output) as trackers:
        for line in lines:
            for tracker in trackers.opened:
                tracker.line(*line)


def test_names_mean_trackers_and_projects(wandb: FakeModule, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_trackers([]) == TrackerChoice()
    assert choose_trackers(["none"]) == TrackerChoice(tensorboard=False)
    assert choose_trackers(["tensorboard"]) == TrackerChoice(tensorboard=True)
    assert choose_trackers(["wandb", "none"]).others == (("wandb", "videocrafter"),)
    assert choose_trackers(["wandb:clips"]).others == (("wandb", "clips"),)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    assert choose_trackers(["wandb", "wandb"]).others == (("wandb", "mine"),)


def test_an_unknown_tracker_and_a_missing_package_are_said_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"there is no tracker 'wandbb'; did you mean wandb\?"):
        choose_trackers(["wandbb"])
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="the tracker wandb is not installed; pip install wandb, or remove"):
        choose_trackers(["wandb"])


def test_a_folder_of_a_trackers_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "swanlab").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingsError, match="the tracker swanlab is not installed"):
        choose_trackers(["swanlab"])


def test_stages_follow_each_other_on_one_axis(wandb: FakeModule, tmp_path: Path) -> None:
    follow(
        ["wandb:clips"],
        tmp_path,
        ("low", 0, "precision", {"precision": "fp32", "fp32_seconds": None}),
        ("low", 5, "train", {"loss": 0.5, "grad_norm": float("nan"), "note": "x"}),
        ("high", 6, "validation", {"loss": 0.25}),
    )
    (options,), (run,) = wandb.asked, wandb.runs
    assert options["project"] == "clips"
    assert options["name"] == tmp_path.name
    assert run.logged == [
        (5, {"train/loss": 0.5, "train/stage": 1}),
        (24 + 6, {"validation/loss": 0.25, "validation/stage": 2}),
    ]
    assert run.finished
    (config,) = wandb.configs
    assert config["seed"] == 3
    assert config["stages.high.num_steps"] == 17
    assert config["stages.low.optimizer.betas"] == "[0.9, 0.98]"


def test_a_run_that_goes_on_goes_on_at_the_tracker(wandb: FakeModule, trackio: FakeModule, tmp_path: Path) -> None:
    names = ["wandb", "trackio"]
    follow(names, tmp_path, ("low", 5, "train", {"loss": 0.5}))
    wandb.first_step = 9  # killed at step 9, and resumed from a checkpoint of step 5
    follow(names, tmp_path, *(("low", step, "train", {"loss": 0.5}) for step in (6, 9, 12)))
    first, second = wandb.asked
    assert first == second
    assert first["resume"] == "allow"
    assert json.loads((tmp_path / "trackers.json").read_text())["wandb"] == first["id"]
    assert [step for step, _ in wandb.runs[1].logged] == [9, 12]
    assert trackio.asked[0] == trackio.asked[1]
    assert trackio.asked[0]["resume"] == "allow"
    assert trackio.asked[0]["name"].startswith(f"{tmp_path.name}-")


def test_two_runs_are_two_at_the_tracker(wandb: FakeModule, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        follow(["wandb"], tmp_path / name)
    assert wandb.asked[0]["id"] != wandb.asked[1]["id"]


def test_a_record_of_numbers_that_is_damaged_gives_a_new_one(wandb: FakeModule, tmp_path: Path) -> None:
    for text in ("[]", "{", '{"wandb": 3}', '{"other": "a"}'):
        (tmp_path / "trackers.json").write_text(text)
        follow(["wandb"], tmp_path)
        assert json.loads((tmp_path / "trackers.json").read_text())["wandb"] == wandb.asked[-1]["id"]
    assert "other" in (tmp_path / "trackers.json").read_text()


def test_pictures_and_videos_are_sent_as_they_are(wandb: FakeModule, tmp_path: Path) -> None:
    for name in ("samples.png", "sample-00.mp4", "verdicts.json"):
        (tmp_path / name).touch()
    with Trackers((("wandb", "p"),), toy_recipe(), tmp_path) as trackers:
        trackers.opened[0].samples("high", 8, tmp_path)
    shown = {"samples/samples": ("image", "samples.png"), "samples/sample-00": ("video", "sample-00.mp4", "mp4")}
    assert wandb.runs[0].logged == [(32, shown)]


def test_a_tracker_that_cannot_start_is_left_out(
    wandb: FakeModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(**options: Any) -> None:
        raise OSError("api_key not\nconfigured")

    monkeypatch.setattr(wandb, "init", refuse)
    follow(["wandb"], tmp_path, ("low", 5, "train", {"loss": 0.5}))
    (warning,) = caplog.messages
    assert "wandb could not be started and is not used (api_key not configured). Training continues" in warning


def test_a_network_that_fails_is_said_once_and_tried_again(
    wandb: FakeModule, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise TimeoutError("no answer")

    with Trackers((("wandb", "p"),), toy_recipe(), tmp_path) as trackers:
        (tracker,), (run,) = trackers.opened, wandb.runs
        run.fail = fail
        for step in (1, 2):
            tracker.line("low", step, "train", {"loss": 1.0})
        wait_until(lambda: tracker._jobs.empty() and bool(caplog.messages))
        run.fail = lambda: None
        tracker.line("low", 3, "train", {"loss": 1.0})
    assert [step for step, _ in run.logged][-1] == 3
    (warning,) = caplog.messages
    assert "wandb rejected a line (no answer)" in warning


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(2000):
        if is_so():
            return
        threading.Event().wait(0.005)
    raise AssertionError("waited in vain")


@pytest.fixture
def stuck(wandb: FakeModule) -> Iterator[threading.Event]:
    """A tracker that blocks until the event is set."""
    event = threading.Event()
    yield event
    event.set()


def test_a_tracker_that_hangs_holds_up_neither_a_line_nor_the_end(
    wandb: FakeModule,
    stuck: threading.Event,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "_FINISH_SECONDS", 0.01)
    monkeypatch.setattr(module, "_MOST_WAITING", 3)
    with Trackers((("wandb", "p"),), toy_recipe(), tmp_path) as trackers:
        wandb.runs[0].fail = stuck.wait
        for step in range(10):
            trackers.opened[0].line("low", step, "train", {"loss": 1.0})
    full, unfinished = caplog.messages
    assert "does not keep up (too many lines are queued)" in full
    assert "did not finish" in unfinished


def test_a_tracker_that_does_not_start_in_time_gets_its_lines_later(
    wandb: FakeModule,
    stuck: threading.Event,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "_START_SECONDS", 0.01)
    begin = wandb.init

    def slow(**options: Any) -> FakeRun:
        stuck.wait()
        return begin(**options)

    monkeypatch.setattr(wandb, "init", slow)
    with Trackers((("wandb", "p"),), toy_recipe(), tmp_path) as trackers:
        trackers.opened[0].line("low", 5, "train", {"loss": 0.5})
        assert wandb.runs == []
        stuck.set()
    assert "has not started" in caplog.messages[0]
    assert wandb.runs[0].logged == [(5, {"train/loss": 0.5, "train/stage": 1})]


def test_a_tracker_of_ones_own_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []

    class Own(GeneralTracker):
        name = "own"
        requires_logging_directory = True
        main_process_only = False
        tracker = None

        def __init__(self, project: str, folder: str) -> None:
            super().__init__()
            heard.append((project, Path(folder)))

        def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
            heard.append((step, values))

    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "own", Own)
    follow(["own"], tmp_path, ("low", 1, "train", {"loss": 2.0}))
    assert heard == [("videocrafter", tmp_path / "own"), (1, {"train/loss": 2.0, "train/stage": 1})]


def test_who_follows_changes_nothing_of_what_is_learned(wandb: FakeModule, tmp_path: Path) -> None:
    train(toy_recipe(), tmp_path / "followed", track=["wandb", "none"])
    train(toy_recipe(), tmp_path / "alone", track=["none"])
    train(toy_recipe(), tmp_path / "followed")  # finished, and the same run without its tracker
    assert (tmp_path / "followed/final/net.pt").read_bytes() == (tmp_path / "alone/final/net.pt").read_bytes()
    (run,) = wandb.runs
    steps = [step for step, _ in run.logged]
    assert steps == sorted(steps)
    assert steps[-1] == 24 + 17
    assert not (tmp_path / "alone/tensorboard").exists()
    assert not (tmp_path / "alone/trackers.json").exists()


def test_a_run_outlives_a_tracker_that_broke(
    wandb: FakeModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(run: FakeRun, values: dict[str, Any], step: int) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(FakeRun, "log", broken)
    assert train(toy_recipe(), tmp_path / "run", track=["wandb"]).finished
    assert [message for message in caplog.messages if "wandb" in message] == [
        "wandb rejected a line (gone). Training continues; log.jsonl is complete."
    ]


def test_to_overwrite_a_run_is_a_new_one_at_the_tracker(wandb: FakeModule, tmp_path: Path) -> None:
    for _ in range(2):
        train(toy_recipe(num_steps=1), tmp_path / "run", track=["wandb"], overwrite=True)
    assert wandb.asked[0]["id"] != wandb.asked[1]["id"]


def test_importing_loads_no_tracker() -> None:
    code = "import sys, videocrafter.training.tracking.trackers; sys.exit('accelerate.tracking' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
