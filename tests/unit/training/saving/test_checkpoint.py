from __future__ import annotations

import logging
import resource
from pathlib import Path

import pytest
import torch
from toy_run import toy_recipe
from toy_task import ToyTaskConfig

from videocrafter.training.run import train
from videocrafter.training.saving.checkpoint import CheckpointError, Checkpoints, find_damage


def write(folder: Path) -> None:
    (folder / "training_state").mkdir()
    (folder / "weights.bin").write_bytes(b"0123456789")
    (folder / "training_state" / "state.pt").write_bytes(b"abc")


def test_the_newest_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "low", keep=2)
    for step in (1, 2, 10):
        checkpoints.save(step, write)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["low-step-00000002", "low-step-00000010"]
    assert checkpoints.latest() == tmp_path / "low-step-00000010"


def test_stages_whose_names_begin_alike_do_not_mix(tmp_path: Path) -> None:
    Checkpoints(tmp_path, "low-step-two", keep=1).save(5, write)
    assert Checkpoints(tmp_path, "low", keep=1).latest() is None


@pytest.mark.parametrize("damage", ["shorter", "changed", "missing", "no manifest", "bad manifest"])
def test_a_damaged_checkpoint_is_named_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    checkpoints = Checkpoints(tmp_path, "low", keep=3)
    good = checkpoints.save(1, write)
    bad = checkpoints.save(2, write)
    assert find_damage(bad) is None
    weights, manifest = bad / "weights.bin", bad / "training_state" / "manifest.json"
    {
        "shorter": lambda: weights.write_bytes(b"01234"),
        "changed": lambda: weights.write_bytes(b"0123456780"),
        "missing": weights.unlink,
        "no manifest": manifest.unlink,
        "bad manifest": lambda: manifest.write_text("{"),
    }[damage]()
    with caplog.at_level(logging.WARNING):
        assert checkpoints.latest() == good
    assert str(bad) in caplog.text


def test_damaged_ones_do_not_crowd_out_what_is_saved_after_them(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "low", keep=1)
    (checkpoints.save(9, write) / "weights.bin").unlink()
    good = checkpoints.save(3, write)
    assert checkpoints.latest() == good


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    """A limit on file size simulates a full disk: writes fail midway in the same place."""
    output = tmp_path / "run"
    recipe = toy_recipe(checkpoint_every=1)
    train(recipe, output, stop_after_s=0.0)
    good = output / "checkpoints" / "low-step-00000001"
    assert find_damage(good) is None
    state_bytes = (good / "training_state" / "state.pt").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (state_bytes // 2, hard))
    try:
        with pytest.raises(CheckpointError) as error:
            train(recipe, output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(good) in str(error.value)
    assert "same command again" in str(error.value)
    assert [path.name for path in (output / "checkpoints").iterdir()] == [good.name]
    assert find_damage(good) is None
    assert train(recipe, output).finished


def test_a_run_resumes_from_the_checkpoint_before_a_damaged_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output, whole = tmp_path / "run", tmp_path / "whole"
    recipe = toy_recipe(ToyTaskConfig(seconds_per_step=0.02), checkpoint_every=1, keep_checkpoints=3)
    train(recipe, whole)
    outcome = train(recipe, output, stop_after_s=0.2)
    newest = output / "checkpoints" / f"low-step-{outcome.step:08d}" / "training_state" / "state.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    with caplog.at_level(logging.INFO):
        assert train(recipe, output).finished
    assert "Skipping the damaged checkpoint" in caplog.text
    assert f"low-step-{outcome.step - 1:08d}" in caplog.text
    mine, theirs = (torch.load(run / "final" / "net.pt", weights_only=True) for run in (output, whole))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
