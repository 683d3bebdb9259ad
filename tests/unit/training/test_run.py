"""Runs: their folder, their errors and their records. Resuming is tested in `test_resume.py`."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from toy_run import toy_recipe
from toy_task import ToyTask, ToyTaskConfig

from videocrafter.checkpoints.publishing.training_record import read_training_record
from videocrafter.pipelines.versions import versions
from videocrafter.training.config import GuardConfig, ParallelConfig, SettingsError
from videocrafter.training.interruption import StopRequest
from videocrafter.training.optim.guard import NonFiniteError
from videocrafter.training.parallel import precision
from videocrafter.training.parallel.precision import choose_precision
from videocrafter.training.randomness import make_generator, seed_global_generators
from videocrafter.training.registry import register
from videocrafter.training.run import _Run, train
from videocrafter.training.saving.run_folder import RunFolderError, lock
from videocrafter.training.saving.state import trained_parameters
from videocrafter.training.tracking.log import read_log, truncate_log

CPU = torch.device("cpu")


def test_what_a_run_leaves(tmp_path: Path) -> None:
    output = tmp_path / "run"
    outcome = train(toy_recipe(), output)
    assert outcome.finished
    assert (outcome.stage, outcome.step, outcome.signal) == ("high", 17, None)
    assert sorted(path.name for path in (output / "checkpoints").iterdir()) == [
        "high-step-00000016", "high-step-00000017", "low-step-00000020", "low-step-00000024",
    ]  # fmt: skip
    assert (output / "final/net.pt").read_bytes() == (output / "stages/high/net.pt").read_bytes()
    assert json.loads((output / "config.json").read_text())["name"] == "toy"
    record = read_training_record(output / "final")
    assert record is not None
    assert [(stage.name, stage.steps) for stage in record.stages] == [("low", 24), ("high", 17)]
    assert record.versions == versions()
    lines = [line for line in read_log(output) if line["kind"] == "train" and line["stage"] == "low"]
    assert [line["step"] for line in lines] == [5, 10, 15, 20, 24]
    assert {"loss", "lr", "grad_norm", "samples_per_s", "jitter"} <= set(lines[0])
    assert lines[-1]["samples"] == 24 * 2 * 6


def test_a_pipeline_holds_the_average_and_the_state_the_raw_weights(tmp_path: Path) -> None:
    train(toy_recipe(), tmp_path)
    checkpoint = tmp_path / "checkpoints/high-step-00000017"
    state = torch.load(checkpoint / "training_state/state.pt", weights_only=True)
    pipeline = torch.load(checkpoint / "net.pt", weights_only=True)
    assert torch.equal(pipeline["0.weight"], state["ema"]["averages"]["net.0.weight"])
    assert not torch.equal(pipeline["0.weight"], state["modules"]["net"]["0.weight"])


def test_a_stage_starts_from_the_one_before_and_the_first_from_init(tmp_path: Path) -> None:
    starts: list[Path | None] = []

    class Spy(ToyTaskConfig):
        pass

    def build(config: Spy, start: Path | None, seed: int, stage_index: int, device: torch.device) -> ToyTask:
        starts.append(start)
        return ToyTask(config, start, seed, stage_index, device)

    register(Spy, build)
    train(toy_recipe(), tmp_path / "before")
    recipe = dataclasses.replace(toy_recipe(Spy()), init=str(tmp_path / "before/final"))
    train(recipe, tmp_path / "after")
    assert starts == [tmp_path / "before/final", tmp_path / "after/stages/low"]
    with pytest.raises(ValueError, match="give a pipeline folder"):
        train(dataclasses.replace(recipe, init="nowhere"), tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_a_finished_run_trains_nothing(tmp_path: Path) -> None:
    train(toy_recipe(), tmp_path)
    before = (tmp_path / "log.jsonl").read_bytes()
    assert train(toy_recipe(), tmp_path).finished
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_a_damaged_stage_is_named_and_made_anew_once_deleted(tmp_path: Path) -> None:
    train(toy_recipe(), tmp_path)
    before = (tmp_path / "final/net.pt").read_bytes()
    shutil.rmtree(tmp_path / "final")
    damaged = tmp_path / "stages/low/cut_off.safetensors"
    damaged.write_bytes(b"\xff\xff")
    with pytest.raises(SettingsError, match=r"cut_off\.safetensors is damaged: .*; delete .*stages/low"):
        train(toy_recipe(), tmp_path)
    shutil.rmtree(damaged.parent)
    assert train(toy_recipe(), tmp_path).finished
    assert (tmp_path / "final/net.pt").read_bytes() == before


def test_a_damaged_start_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    (tmp_path / "start/cut_off.safetensors").write_bytes(b"\xff\xff")
    with pytest.raises(SettingsError, match=r"init is .*cut_off\.safetensors is damaged.*use a complete copy"):
        train(dataclasses.replace(toy_recipe(), init=str(tmp_path / "start")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_configuration_is_refused_unless_accepted(tmp_path: Path) -> None:
    train(toy_recipe(), tmp_path, stop_after_s=0.0)
    changed = toy_recipe(ema_decay=0.5)
    with pytest.raises(RunFolderError, match=r"stages\.low\.ema_decay: 0\.9 -> 0\.5"):
        train(changed, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["stages"][0]["ema_decay"] == 0.9
    assert train(changed, tmp_path, accept_changes=True).finished
    assert json.loads((tmp_path / "config.json").read_text())["stages"][0]["ema_decay"] == 0.5


def test_harmless_changes_need_no_leave(tmp_path: Path) -> None:
    train(toy_recipe(), tmp_path, stop_after_s=0.0)
    assert train(toy_recipe(log_every=1, checkpoint_every=3), tmp_path).finished


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="is not empty and holds no run"):
        train(toy_recipe(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    train(toy_recipe(), tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_overwrite_begins_anew(tmp_path: Path) -> None:
    train(toy_recipe(), tmp_path)
    outcome = train(toy_recipe(ema_decay=0.5), tmp_path, overwrite=True, stop_after_s=0.0)
    assert (outcome.stage, outcome.step) == ("low", 1)
    assert not (tmp_path / "final").exists()


def test_a_file_or_an_unwritable_folder_as_output(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="is a file"):
        train(toy_recipe(), tmp_path / "file")
    with pytest.raises(RunFolderError, match="cannot be written"):
        train(toy_recipe(), tmp_path / "file" / "run")


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with lock(tmp_path, overwrite=False), pytest.raises(RunFolderError, match="another run is training"):
        train(toy_recipe(), tmp_path)


def bad_batches(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "bad_batches.jsonl").read_text().splitlines()]


def test_a_loss_that_is_no_number_is_skipped_and_written_down(tmp_path: Path) -> None:
    assert train(toy_recipe(ToyTaskConfig(nan_at_step=6)), tmp_path).finished
    noted = [line for line in bad_batches(tmp_path) if line["stage"] == "low"]
    assert {(line["step"], line["data_step"], line["verdict"]) for line in noted} == {(7, 6, "skip")}
    assert [line["micro_step"] for line in noted] == [0, 1]
    assert noted[0]["batch"][2] == "row 2 of step 6"
    assert all(math.isnan(line["loss"]) for line in noted)
    logged = [line for line in read_log(tmp_path) if line["kind"] == "train" and line["stage"] == "low"]
    assert all(math.isfinite(line["loss"]) for line in logged)
    assert logged[-1]["skipped"] == 1
    weights = torch.load(tmp_path / "final" / "net.pt", weights_only=True)
    assert all(torch.isfinite(weight).all() for weight in weights.values())


def test_after_too_many_bad_steps_the_stage_goes_back_and_its_data_go_on(tmp_path: Path) -> None:
    """Data steps 5 to 7 are bad: one is skipped, then the stage returns to step 4 and continues with data step 7."""
    recipe = toy_recipe(ToyTaskConfig(nan_at_step=5, nan_until_step=7), guard=GuardConfig(skips=1, rollbacks=1))
    assert train(recipe, tmp_path).finished
    noted = [(line["step"], line["data_step"], line["verdict"]) for line in bad_batches(tmp_path)[::2][:3]]
    assert noted == [(6, 5, "skip"), (7, 6, "roll back"), (5, 7, "skip")]
    weights = torch.load(tmp_path / "final" / "net.pt", weights_only=True)
    assert all(torch.isfinite(weight).all() for weight in weights.values())


def test_when_going_back_does_not_help_the_run_stops(tmp_path: Path) -> None:
    recipe = toy_recipe(ToyTaskConfig(nan_at_step=5, nan_until_step=99), guard=GuardConfig(skips=1, rollbacks=2))
    with pytest.raises(NonFiniteError, match=r"stage 'low', step 6: .* not finite .* 2 returns"):
        train(recipe, tmp_path)
    assert bad_batches(tmp_path)[-1]["verdict"] == "stop", "the batch that ended the run is recorded as well"
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["low-step-00000004"]
    assert train(toy_recipe(), tmp_path, accept_changes=True).finished


def test_without_a_checkpoint_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    recipe = toy_recipe(ToyTaskConfig(nan_at_step=1, nan_until_step=99), guard=GuardConfig(skips=0))
    with pytest.raises(NonFiniteError, match=r"step 2: .* no checkpoint to go back to"):
        train(recipe, tmp_path)


def test_checkpoints_of_round_steps_and_the_best_are_kept(tmp_path: Path) -> None:
    settings = {"checkpoint_every": 2, "keep_checkpoints": 1, "validate_every": 3}
    train(toy_recipe(keep_every=4, keep_best="mean", **settings), tmp_path)
    measured = [line for line in read_log(tmp_path) if line["kind"] == "validation" and line["stage"] == "low"]
    best = min(measured, key=lambda line: line["mean"])["step"]
    steps = {int(path.name[-8:]) for path in (tmp_path / "checkpoints").glob("low-step-*")}
    last = measured[-1]["step"]
    assert steps == set(range(4, last + 1, 4)) | {best, last}
    record = json.loads((tmp_path / "checkpoints" / "low-best.json").read_text())
    assert record["step"] == best


def test_accumulation_minimises_the_mean_over_micro_steps(tmp_path: Path) -> None:
    train(toy_recipe(num_steps=1, validate_every=0), tmp_path)
    logged = next(line for line in read_log(tmp_path) if line["kind"] == "train")
    seed_global_generators(3, "low", "build")
    task = ToyTask(ToyTaskConfig(), None, 3, 0, CPU)
    losses = []
    for micro_step in range(2):
        batch = task.batch(0, micro_step)
        seed_global_generators(3, "low", 0, micro_step)
        losses.append(task.loss(batch, make_generator(CPU, 3, "low", 0, micro_step, "loss"))[0])
    mean = torch.stack(losses).mean()
    norm = torch.nn.utils.get_total_norm(torch.autograd.grad(mean, task.trainable_parameters()))
    assert not torch.equal(*losses)
    assert logged["loss"] == pytest.approx(mean.item(), rel=1e-6)
    assert logged["grad_norm"] == pytest.approx(norm.item(), rel=1e-5)
    assert logged["samples"] == 12


def test_measuring_precision_leaves_the_task_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "emulates_bf16", lambda: False)
    task = ToyTask(ToyTaskConfig(), None, 0, 0, CPU)
    before = {key: value.clone() for key, value in task.net.state_dict().items()}
    choice = choose_precision("auto", task, CPU)
    assert choice.fp32_seconds is not None
    assert choice.bf16_seconds is not None
    wanted = "bf16" if choice.fp32_seconds / choice.bf16_seconds >= 1.05 else "fp32"
    assert choice.precision == wanted
    assert all(torch.equal(before[key], value) for key, value in task.net.state_dict().items())
    assert all(parameter.grad is None for parameter in task.trainable_parameters())
    assert choose_precision("bf16", task, CPU).precision == "bf16"


def test_the_measured_precision_is_kept_for_resumption(tmp_path: Path) -> None:
    recipe = toy_recipe(precision="auto")
    train(recipe, tmp_path, stop_after_s=0.0)
    choices = tmp_path / "choices.json"
    chosen = json.loads(choices.read_text())["low"]["precision"]
    other = "fp32" if chosen == "bf16" else "bf16"
    # If the first run had been killed before its first checkpoint, only this file would hold the choice.
    (saved,) = (tmp_path / "checkpoints").iterdir()
    (saved / "training_state/manifest.json").unlink()
    choices.write_text(choices.read_text().replace(f'"{chosen}"', f'"{other}"'))
    train(recipe, tmp_path, stop_after_s=0.0)
    state = torch.load(saved / "training_state/state.pt", weights_only=True)
    assert state["precision"] == other


def test_a_precision_that_is_asked_for_wins_over_the_saved_one(tmp_path: Path) -> None:
    train(toy_recipe(), tmp_path, stop_after_s=0.0)
    train(toy_recipe(precision="bf16"), tmp_path, stop_after_s=0.0, accept_changes=True)
    state = torch.load(tmp_path / "checkpoints/low-step-00000002/training_state/state.pt", weights_only=True)
    assert state["precision"] == "bf16"


def test_the_log_is_cut_back_to_a_checkpoint(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [{"stage": s, "step": n, "kind": "train"} for s, n in [("low", 5), ("low", 9), ("high", 2), ("high", 4)]]
    whole = "".join(json.dumps(line) + "\n" for line in lines)
    for stage, step, kept in [("high", 2, 3), ("high", -1, 2), ("low", 5, 1), ("low", -1, 0), ("high", 9, 4)]:
        log.write_text(whole + '{"stage": "hi')
        truncate_log(tmp_path, ["low", "high"], stage, step)
        assert read_log(tmp_path) == lines[:kept]


def test_a_task_that_contradicts_itself_is_refused() -> None:
    task = ToyTask(ToyTaskConfig(), None, 0, 0, CPU)
    assert len(trained_parameters(task)) == 6
    task.net[0].bias.requires_grad_(False)
    with pytest.raises(ValueError, match=r"net\.0\.bias is trainable but has requires_grad=False"):
        trained_parameters(task)


def test_sharding_of_networks_that_cannot_be_sharded_is_refused() -> None:
    recipe, processes = toy_recipe(), SimpleNamespace(count=2)
    run = _Run(recipe, *[None, processes, None, None], accept_changes=False)  # type: ignore[arg-type]
    parallel, student = ParallelConfig(sharding="full"), SimpleNamespace(shardable_modules=())
    with pytest.raises(SettingsError, match="stage low trains SimpleNamespace, which cannot be sharded"):
        run._sharded_modules(parallel, recipe.stages[0], student)  # type: ignore[arg-type]
    assert run._sharded_modules(ParallelConfig(), recipe.stages[0], student) == ()  # type: ignore[arg-type]


def test_a_run_in_a_thread_leaves_signals_alone(tmp_path: Path) -> None:
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(train(toy_recipe(), tmp_path)))
    thread.start()
    thread.join()
    assert outcomes[0].finished


def test_a_second_signal_quits_at_once() -> None:
    with StopRequest() as stop:
        stop._handle(2, None)
        assert stop.requested()
        with pytest.raises(KeyboardInterrupt):
            stop._handle(2, None)


def test_progress_is_logged_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("videocrafter.training.tracking.progress._SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO):
        train(toy_recipe(), tmp_path)
    lines = [record.message for record in caplog.records if "samples/s" in record.message]
    assert any(line.startswith("low (1/2): step 7 of 24") and "left" in line and "loss" in line for line in lines)


@pytest.mark.slow
def test_compiled_networks_train_and_keep_their_names(tmp_path: Path) -> None:
    pytest.importorskip("torch._inductor")
    train(toy_recipe(num_steps=2, compile=True), tmp_path, stop_after_s=0.0)
    state = torch.load(tmp_path / "checkpoints/low-step-00000001/training_state/state.pt", weights_only=True)
    assert "0.weight" in state["modules"]["net"]
