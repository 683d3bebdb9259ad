"""`videocrafter convert`: output and errors."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.command_line import Result
from tests.official_checkpoints import save_checkpoint, small_checkpoint, small_params, write_config

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def t2v() -> dict[str, Tensor]:
    return small_checkpoint()


@pytest.fixture
def source(tmp_path: Path, t2v: dict[str, Tensor]) -> Path:
    return save_checkpoint(tmp_path / "model.ckpt", t2v)


def refused(result: Result) -> str:
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_there_and_back(cli: Run, source: Path, tmp_path: Path, t2v: dict[str, Tensor]):
    folder, back = tmp_path / "model", tmp_path / "back.ckpt"
    result = cli("convert", source, folder)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "an unreleased model in the VideoCrafter1 format (text to video" in result.stdout
    count = sum(value.numel() for key, value in t2v.items() if key.startswith("model.diffusion_model."))
    assert f"unet: {count / 1e3:.3g} k parameters" in result.stdout
    assert f"Wrote {folder} (4.6 MB of weights, including 27 tensors that no network uses)" in result.stdout
    assert "Licence of the weights: that of the source checkpoint." in result.stdout
    assert cli("convert", folder, back).exit_code == 0
    got = torch.load(back, weights_only=True)["state_dict"]
    assert got.keys() == t2v.keys()
    assert all(torch.equal(got[key], value) for key, value in t2v.items())


@pytest.mark.parametrize("inside", ["checkpoints/low-step-00000007", "final", ""])
def test_a_run_and_its_checkpoints_become_checkpoint_files(
    cli: Run, source: Path, tmp_path: Path, t2v: dict[str, Tensor], inside: str
):
    run, back = tmp_path / "run", tmp_path / "back.ckpt"
    checkpoint = run / "checkpoints" / "low-step-00000007"
    assert cli("convert", source, checkpoint).exit_code == 0
    shutil.copytree(checkpoint, run / "final")
    (checkpoint / "training_state").mkdir()
    torch.save({"optimizer": torch.ones(3)}, checkpoint / "training_state" / "state.pt")
    (run / "config.json").write_text("{}")
    done = cli("convert", run / inside, back)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{run / (inside or 'final')}: ")
    got = torch.load(back, weights_only=True)["state_dict"]
    assert got.keys() == t2v.keys()
    assert all(torch.equal(got[key], value) for key, value in t2v.items())
    shutil.rmtree(run / "final")
    assert f"use its newest checkpoint, {checkpoint}" in refused(cli("convert", run, tmp_path / "more.ckpt"))


def test_options_arrive(cli: Run, source: Path, tmp_path: Path):
    config = write_config(tmp_path / "model.yaml", small_params())
    result = cli("convert", source, tmp_path / "a", "--dtype", "float16", "--config", config, "--drop-unused")
    assert "Note: converted to float16" in result.stdout
    assert "Note: unused tensors were omitted" in result.stdout
    again = cli("convert", source, tmp_path / "a", "--overwrite")
    assert again.exit_code == 0
    assert "Note: converted" not in again.stdout
    assert "has no EMA weights" in refused(cli("convert", source, tmp_path / "b", "--ema"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere.ckpt", "out"], "nowhere.ckpt does not exist"),
        (["model.ckpt", "out.ckpt"], "OUT is out.ckpt, but a checkpoint is converted to a folder"),
        (["model.ckpt", "taken"], "taken already exists"),
        (["model.ckpt", "holiday", "--overwrite"], "holds something other than a model"),
        (
            ["model.ckpt", "out", "--dtype", "int8"],
            "unknown dtype 'int8'; expected one of float32, bfloat16, float16",
        ),
        (["model.ckpt", "out", "--config", "nowhere.yaml"], "nowhere.yaml does not exist"),
        (["model.ckpt", "model.ckpt/out"], "part of the path is a file, not a folder"),
        (["holiday", "out"], "is neither a pipeline folder"),
        (["taken", "out"], "taken cannot be converted: taken/unet/config.json is missing"),
        (["taken", "out.ckpt", "--dtype", "float16", "--ema"], "omit --dtype and --ema: only for checkpoints"),
    ],
)
def test_bad_input(
    cli: Run, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
):
    for name, file in (("holiday", "photo.png"), ("taken", "model_index.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text('{"_class_name": "TextToVideoPipeline"}')
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert reason in refused(cli("convert", *arguments))
    assert sorted(tmp_path.rglob("*")) == before


class RunsCode:
    def __reduce__(self) -> Any:
        return os.mkdir, ("it_ran",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"state_dict": {"model.x": RunsCode()}}, "could run code"),
        ({"lora_unet_a.lora_down.weight": torch.ones(1)}, "seems to be a LoRA; load it on top of a model"),
        ({"first_stage_model.quant_conv.weight": torch.ones(1)}, "seems to be a VAE alone"),
        ({"epoch": 3}, "holds no named tensors"),
    ],
)
def test_files_that_are_no_model(cli: Run, tmp_path: Path, content: Any, reason: str):
    torch.save(content, tmp_path / "model.ckpt")
    assert reason in refused(cli("convert", tmp_path / "model.ckpt", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_model_that_has_no_official_form(cli: Run, t2v_folder: Path, tmp_path: Path):
    assert "cannot be converted" in refused(cli("convert", t2v_folder, tmp_path / "model.ckpt"))
