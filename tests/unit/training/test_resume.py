"""Runs that are stopped or killed and resumed are bit-identical to uninterrupted ones."""

from __future__ import annotations

import dataclasses
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_run import toy_recipe
from toy_task import ToyTaskConfig

from tests.same_state import assert_same
from tests.warm_process import WarmProcess
from videocrafter.media.atomic_write import is_leftover
from videocrafter.training.config import RecipeConfig
from videocrafter.training.run import train
from videocrafter.training.saving.checkpoint import Checkpoints
from videocrafter.training.saving.run_folder import RunFolder
from videocrafter.training.tracking.log import read_log
from videocrafter.training.tracking.log_keys import TIMING_KEYS

SECONDS_PER_STEP = 0.01
# Seconds before a process counts as hanging; far more than it takes, because machines that test are busy ones.
PATIENCE = 300
LAST_CHECKPOINT = "checkpoints/high-step-00000017"


def start(output: Path) -> WarmProcess:
    return WarmProcess("import toy_run; toy_run.main()", output, SECONDS_PER_STEP)


def wait_for_step(output: Path, step: int, process: WarmProcess) -> None:
    """Wait until the log shows this many steps over both stages."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        log = output / "log.jsonl"
        if log.exists() and log.read_bytes().count(b'"kind": "train"') * 5 >= step:
            return
        time.sleep(0.005)


def load_state(output: Path, checkpoint: str = LAST_CHECKPOINT) -> dict[str, Any]:
    state = torch.load(output / checkpoint / "training_state" / "state.pt", weights_only=True)
    del state["seconds"]
    return state


def untimed_log(output: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in entry.items() if k not in TIMING_KEYS} for entry in read_log(output)]


def assert_same_run(one: Path, other: Path) -> None:
    assert_same(load_state(one), load_state(other))
    for file in ("final/net.pt", "stages/low/net.pt", "samples/high-step-00000016/sheet.txt"):
        assert (one / file).read_bytes() == (other / file).read_bytes(), file
    assert untimed_log(one) == untimed_log(other)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert start(output).wait(PATIENCE) == 0
    return output


@pytest.mark.slow
def test_a_run_killed_again_and_again_equals_an_uninterrupted_one(tmp_path: Path, uninterrupted: Path) -> None:
    output = tmp_path / "run"
    rng = random.Random(0)
    kills = 0
    for step in (1, 10, 20, 26):
        process = start(output)
        wait_for_step(output, step, process)
        time.sleep(rng.uniform(0, 5 * SECONDS_PER_STEP))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert kills == 4
    assert not (output / "final").exists()
    assert start(output).wait(PATIENCE) == 0
    assert_same_run(output, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_goes_on(
    tmp_path: Path, uninterrupted: Path, number: signal.Signals
) -> None:
    output = tmp_path / "run"
    process = start(output)
    wait_for_step(output, 5, process)
    process.send_signal(number)
    assert process.wait(PATIENCE) == 128 + number
    saved = sorted(path.name for path in (output / "checkpoints").iterdir())
    assert saved
    assert not any(is_leftover(name) for name in saved)
    assert start(output).wait(PATIENCE) == 0
    assert_same_run(output, uninterrupted)


def test_stopping_after_a_time_saves_between_intervals(tmp_path: Path) -> None:
    recipe = toy_recipe(ToyTaskConfig(seconds_per_step=0.05), checkpoint_every=0)
    outcome = train(recipe, tmp_path / "run", stop_after_s=0.15)
    assert not outcome.finished
    assert outcome.stage == "low"
    assert 0 < outcome.step < 24
    assert (tmp_path / "run/checkpoints" / f"low-step-{outcome.step:08d}" / "net.pt").exists()


def test_checkpoints_do_not_change_what_is_learned(tmp_path: Path) -> None:
    train(toy_recipe(checkpoint_every=1), tmp_path / "often")
    train(toy_recipe(checkpoint_every=0, validate_every=0, sample_every=0), tmp_path / "never")
    often, never = load_state(tmp_path / "often"), load_state(tmp_path / "never")
    assert_same(often, never)


def test_a_finished_last_stage_is_extended(tmp_path: Path) -> None:
    whole = toy_recipe()
    constant = dataclasses.replace(whole.stages[1], name="only", num_steps=20)
    longer = dataclasses.replace(whole, stages=(constant,))
    shorter = dataclasses.replace(whole, stages=(dataclasses.replace(constant, num_steps=10),))
    train(longer, tmp_path / "at-once")
    train(shorter, tmp_path / "in-two")
    train(longer, tmp_path / "in-two", accept_changes=True)
    last = "checkpoints/only-step-00000020"
    assert_same(load_state(tmp_path / "in-two", last), load_state(tmp_path / "at-once", last))
    assert (tmp_path / "in-two/final/net.pt").read_bytes() == (tmp_path / "at-once/final/net.pt").read_bytes()


def test_a_run_killed_while_it_wrote_its_configuration_begins(tmp_path: Path) -> None:
    for name in (".lock", ".0123456789abcdef.part", ".tmp-config.json"):
        (tmp_path / name).touch()
    assert train(toy_recipe(), tmp_path).finished
    assert not any(is_leftover(path.name) for path in tmp_path.iterdir())


def test_what_a_killed_run_left_beside_its_samples_is_removed(tmp_path: Path) -> None:
    train(toy_recipe(), tmp_path, stop_after_s=0.0)
    folder = tmp_path / "samples" / "low-step-00000008"
    folder.mkdir(parents=True)
    for name in (".0123456789abcdef.part", ".mine.part"):
        (folder / name).touch()
    train(toy_recipe(), tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [".mine.part", "sheet.txt"]


def train_killed(recipe: RecipeConfig, output: Path) -> int:
    """Train until the run is finished; return how often it was killed."""
    for kills in range(100):
        try:
            assert train(recipe, output, accept_changes=True).finished
        except KeyboardInterrupt:
            continue
        return kills
    raise AssertionError("the run does not come to its end")


def test_a_longer_run_killed_before_its_end_is_published_publishes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = RunFolder.publish_final
    train(toy_recipe(), tmp_path)
    short = (tmp_path / "final/net.pt").read_bytes()

    def killed(self: RunFolder, last_stage: str) -> None:
        monkeypatch.setattr(RunFolder, "publish_final", publish)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "publish_final", killed)
    recipe = toy_recipe()
    longer = dataclasses.replace(
        recipe, stages=(recipe.stages[0], dataclasses.replace(recipe.stages[1], num_steps=20))
    )
    assert train_killed(longer, tmp_path) == 1
    assert (tmp_path / "final/net.pt").read_bytes() == (tmp_path / "stages/high/net.pt").read_bytes() != short


@pytest.mark.parametrize("moment", ["mark_best", "save"])
def test_the_best_checkpoint_is_the_same_whenever_a_run_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    recipe = toy_recipe(keep_best="mean", validate_every=2, checkpoint_every=0, keep_checkpoints=1)
    train(recipe, tmp_path / "whole")
    done, seen = getattr(Checkpoints, moment), set()

    def killed_after(self: Checkpoints, step: int, *rest: Any) -> Any:
        answer = done(self, step, *rest)
        if self.path(step) not in seen:
            seen.add(self.path(step))
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(Checkpoints, moment, killed_after)
    assert train_killed(recipe, tmp_path / "killed") == len(seen) >= 3
    for stage in ("low", "high"):
        files = [tmp_path / run / "checkpoints" / f"{stage}-best.json" for run in ("whole", "killed")]
        assert files[0].read_text() == files[1].read_text()
    names = [{path.name for path in (tmp_path / run / "checkpoints").iterdir()} for run in ("whole", "killed")]
    assert names[0] == names[1]
