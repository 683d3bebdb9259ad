from __future__ import annotations

import errno
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from videocrafter.cli.train import train as train_module
from videocrafter.cli.train.train import parse_duration, register

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))
import toy_task
from toy_run import toy_recipe

runner = CliRunner()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    recipes = types.ModuleType("videocrafter.training.recipes.by_name")
    recipes.RECIPES = {"toy": toy_recipe, "other": toy_recipe}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "videocrafter.training.recipes.by_name", recipes)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    register(app)
    return app


def test_a_dry_run_prints_the_resolved_configuration(app: typer.Typer, tmp_path: Path) -> None:
    result = runner.invoke(app, ["train", "toy", "--dry-run", "--set", "stages.low.num_steps=7", "--set", "seed=9"])
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert data["seed"] == 9
    assert data["stages"][0]["num_steps"] == 7


def test_some_stages_run_alone_in_the_recipes_order(app: typer.Typer) -> None:
    def planned(*options: str) -> list[str]:
        result = runner.invoke(app, ["train", "toy", "--dry-run", "--set", "stages.*.num_steps=7", *options])
        assert result.exit_code == 0, result.output
        return [stage["name"] for stage in json.loads(result.stdout)["stages"]]

    first, *_, last = whole = planned()
    assert planned("--stages", last) == [last]
    assert planned("--stages", f"{last}, {first}") == [first, last]
    assert planned("--stages", ",".join(whole)) == whole


def test_training_says_where_the_model_is(app: typer.Typer, tmp_path: Path) -> None:
    result = runner.invoke(app, ["train", "toy", "--output", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "run" / "final") in result.stderr


def test_nobody_follows_but_who_is_asked_to(app: typer.Typer, tmp_path: Path) -> None:
    command = ["train", "toy", "--output", str(tmp_path / "run"), "--stop-after", "0.001s"]
    assert runner.invoke(app, [*command, "--track", "none", "--plain"]).exit_code == 0
    assert not (tmp_path / "run/tensorboard").exists()
    again = runner.invoke(app, command)
    assert again.exit_code == 0, again.stderr
    assert "changed settings" not in again.stderr
    assert (tmp_path / "run/tensorboard").exists()


def test_stop_after_says_how_to_go_on(app: typer.Typer, tmp_path: Path) -> None:
    result = runner.invoke(app, ["train", "toy", "-o", str(tmp_path / "run"), "--stop-after", "0.001s"])
    assert result.exit_code == 0
    assert "stage low at step 1" in result.stderr
    assert "run the same command to resume" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["toi"], "there is no recipe 'toi'; did you mean toy? Recipes: other, toy"),
        (["toy"], "--output DIR"),
        (["toy", "--stages", "low,hihg"], "--stages names 'hihg'; the recipe 'toy' has low, "),
        (["toy", "--set", "stages.low.lr=1"], "did you mean stages.low.optimizer.lr?"),
        (["toy", "--set", "stages.low.num_steps=0"], "num_steps is 0, expected 1 or more"),
        (["toy", "--output", "{folder}", "--set", "stages.low.keep_best=means"], "stages.low.keep_best is 'means'"),
        (["toy", "--stop-after", "soon"], "write it as 90s, 30m or 1.5h"),
        (["toy", "--output", "{file}"], "is a file; choose a folder"),
        (["toy", "--output", "{folder}", "--track", "wandbb"], "there is no tracker 'wandbb'; did you mean wandb?"),
        (["toy", "--output", "{folder}", "--track", "swanlab"], "is not installed; pip install swanlab"),
        (["toy", "--output", "{folder}", "--device", "abacus"], "the device 'abacus' is not available here"),
        (["toy", "--output", "{folder}", "--set", "init=nowhere"], "which is neither a folder nor a model"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    app: typer.Typer, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "file").touch()
    places = {"{file}": str(tmp_path / "file"), "{folder}": str(tmp_path / "run")}
    result = runner.invoke(app, ["train", *(places.get(argument, argument) for argument in arguments)])
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_a_stage_cannot_be_built_from_is_one_line(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("there is no vae")

    monkeypatch.setattr(toy_task.ToyTask, "__init__", refuse)
    result = runner.invoke(app, ["train", "toy", "-o", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert result.stderr == "Error: stage 'low' cannot be built: there is no vae\n"


def test_settings_may_be_mended_before_anything_was_learned(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("too wide")

    command = ["train", "toy", "-o", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(toy_task.ToyTask, "__init__", refuse)
        assert runner.invoke(app, command).exit_code == 2
    mended = runner.invoke(app, [*command, "--set", "stages.*.task.width=6"])
    assert mended.exit_code == 0, mended.stderr
    refused = runner.invoke(app, command)
    assert refused.exit_code == 2
    assert "holds a run with another configuration" in refused.stderr


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = toy_task.ToyTask.save_pipeline
    saved: list[Path] = []

    def fill(task: toy_task.ToyTask, folder: Path) -> None:
        save(task, folder)
        saved.append(folder)
        if len(saved) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    command = ["train", "toy", "-o", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(toy_task.ToyTask, "save_pipeline", fill)
        result = runner.invoke(app, command)
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert "the disk is full" in line
    assert f"the last good checkpoint is {tmp_path / 'run/checkpoints/low-step-00000008'}" in line
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == [
        "low-step-00000004",
        "low-step-00000008",
    ]
    again = runner.invoke(app, command)
    assert again.exit_code == 0, again.stderr
    assert "resumed from" in again.stderr


def test_a_bug_in_a_task_keeps_its_traceback(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("shapes differ")

    monkeypatch.setattr(toy_task.ToyTask, "loss", broken)
    result = runner.invoke(app, ["train", "toy", "-o", str(tmp_path / "run")])
    assert isinstance(result.exception, ValueError)
    assert str(result.exception) == "shapes differ"
    assert "Error:" not in result.stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("1h30m", 5400), ("1d", 86400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5m", "5 minutes", "m", "1h30"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_importing_the_command_loads_nothing_heavy() -> None:
    code = "import sys, videocrafter.cli.train.train; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_changed_settings_are_shown_and_asked_about_at_a_terminal(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = str(tmp_path / "run")
    runner.invoke(app, ["train", "toy", "-o", output, "--stop-after", "0.001s"])
    changed = ["train", "toy", "-o", output, "--set", "stages.low.optimizer.lr=0.5"]
    refused = runner.invoke(app, changed, input="y\n")
    assert refused.exit_code == 2
    assert "stages.low.optimizer.lr" in refused.stderr
    monkeypatch.setattr(train_module, "_can_ask", lambda: True)
    for answer in ("n\n", "\n"):
        declined = runner.invoke(app, changed, input=answer)
        assert declined.exit_code == 2
        assert all(part in declined.stderr for part in ("stages.low.optimizer.lr", "0.01", "0.5", "[y/N]"))
    agreed = runner.invoke(app, [*changed, "--stop-after", "0.001s"], input="y\n")
    assert agreed.exit_code == 0, agreed.output
    assert json.loads((tmp_path / "run/config.json").read_text())["stages"][0]["optimizer"]["lr"] == 0.5


def test_processes_of_a_launcher_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(sys, "stderr", types.SimpleNamespace(isatty=lambda: True))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert train_module._can_ask()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not train_module._can_ask()
