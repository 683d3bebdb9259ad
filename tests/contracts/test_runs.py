"""The commands of `runs/tiny.sh` and `runs/forgetting.sh` parse, and use only the outputs of earlier commands.

Stubs record the calls; the commands themselves are tested elsewhere.
"""

import importlib.util
import itertools
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from videocrafter.cli.main import app
from videocrafter.data.sprite_world.world import SUBJECTS
from videocrafter.training.config import RecipeConfig
from videocrafter.training.recipes.by_name import RECIPES
from videocrafter.training.recipes.overrides import apply_overrides

RUNS = Path(__file__).parents[2] / "runs"
END = "end of command"


def commands(folder: Path, *script: str, **environment: str) -> list[list[str]]:
    """The commands that a script runs; by default tiny.sh with `folder/out` and two processes."""
    called = folder / "called"
    (folder / "bin").mkdir(parents=True)
    for name in ("videocrafter", "torchrun", "python"):
        stub = folder / "bin" / name
        stub.write_text(f"#!/bin/sh\nprintf '%s\\n' {name} \"$@\" '{END}' >> '{called}'\n")
        stub.chmod(0o755)
    settings = {name: value for name, value in os.environ.items() if name not in ("TOY", "ASSETS")}
    settings |= {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", **environment}
    name, *arguments = script or ("tiny.sh", str(folder / "out"), "2")
    subprocess.run(["bash", str(RUNS / name), *arguments], env=settings, cwd=folder, check=True, timeout=60)
    return [part.splitlines() for part in called.read_text().split(f"{END}\n")[:-1]]


def options(arguments: list[str], name: str) -> list[str]:
    return [value for option, value in itertools.pairwise(arguments) if option == name]


def parsed(arguments: list[str]) -> dict[str, object]:
    """Parse the arguments after `videocrafter`; an unknown option raises."""
    name, *rest = arguments
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    return dict(command.make_context(name, rest).params)


def trainings(story: list[list[str]]) -> dict[Path, tuple[RecipeConfig, int]]:
    """Recipe and number of processes of every training run, by its folder."""
    found = {}
    for command in story:
        if "train" not in command:
            continue
        given = parsed(command[command.index("train") :])
        recipe = apply_overrides(RECIPES[str(given["recipe"])](), given["set_"])  # type: ignore[arg-type]
        processes = int(options(command, "--nproc_per_node")[0]) if command[0] == "torchrun" else 1
        found[Path(str(given["output"]))] = (recipe, processes)
    return found


@pytest.fixture(params=["real", "toy"])
def story(request: pytest.FixtureRequest, tmp_path: Path) -> list[list[str]]:
    return commands(tmp_path, **({"TOY": "1"} if request.param == "toy" else {}))


def test_every_part_is_trained_before_it_is_used(story: list[list[str]], tmp_path: Path) -> None:
    made: set[str] = set()
    for output, (recipe, processes) in trainings(story).items():
        needed = {recipe.init} if recipe.init else set()
        for stage in recipe.stages:
            assert stage.optimizer.accumulate % processes == 0, (recipe.name, stage.name)
            needed |= {getattr(stage.task, part) for part in ("autoencoder", "towers") if hasattr(stage.task, part)}
        assert needed <= made, recipe.name
        made.add(str(output / "final"))
    names = {"vae", "clip", "judge", "second-judge", "sd", "t2v", "fast", "i2v"}
    assert {Path(one).parent.name for one in made} == names
    assert all(Path(one).is_relative_to(tmp_path / "out") for one in made)


def test_the_trained_models_are_shipped_and_the_shipped_models_examined(
    story: list[list[str]], tmp_path: Path
) -> None:
    (ship,) = [command[1:] for command in story if command[0] == "python"]
    assert Path(ship[0]).resolve() == RUNS / "ship.py"
    spec = importlib.util.spec_from_file_location("ship", RUNS / "ship.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shipped = module.parse(ship[1:])
    out = tmp_path / "out"
    for part in ("t2v", "fast", "i2v", "judge"):
        assert getattr(shipped, part) == out / part / "final"
    assert [command[:2] for command in story[-2:]] == [["videocrafter", "evaluate"]] * 2
    exam = parsed(story[-1][1:])
    assert (exam["what"], exam["i2v"]) == tuple(f"{shipped.assets}/{name}" for name in ("tiny-t2v", "tiny-i2v"))
    assert exam["judge"] == shipped.assets / "judge"
    assert (exam["second_judge"], exam["output"]) == (out / "second-judge" / "final", out / "exam")


def test_a_toy_run_is_short_and_does_not_change_the_package(tmp_path: Path) -> None:
    toy, real = (commands(tmp_path / name, **setting) for name, setting in (("toy", {"TOY": "1"}), ("real", {})))
    assert all(stage.num_steps == 2 for recipe, _ in trainings(toy).values() for stage in recipe.stages)
    assert all(stage.num_steps > 2 for recipe, _ in trainings(real).values() for stage in recipe.stages)
    (toy_assets,), (real_assets,) = (
        [place for command in story for place in options(command, "--assets")] for story in (toy, real)
    )
    assert Path(toy_assets) == tmp_path / "toy" / "out" / "assets"
    assert Path(real_assets).resolve() == RUNS.parent / "src" / "videocrafter" / "assets" / "models"


def test_the_runs_that_show_forgetting_differ_in_images_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    story = commands(
        tmp_path, "forgetting.sh", "stills", str(out), "--set", "stages.low.optimizer.lr=0.5", CLIPS="30"
    )
    (both, _), (alone, _) = (trainings(story)[out / name] for name in ("with-images", "clips-alone"))
    stages = [recipe.stages[0] for recipe in (both, alone)]
    tasks = [stage.task for stage in stages]
    assert [stage.num_steps * (1 - stage.task.image_share) for stage in stages] == [30, 30]
    assert [task.image_share for task in tasks] == [0.4, 0.0]
    assert replace(tasks[0], image_share=0.0) == tasks[1]
    assert both.stages[0].optimizer.lr == 0.5
    assert {*tasks[0].world.subjects, *tasks[0].image_subjects} == set(SUBJECTS)
    asked = [command[command.index("--subjects") + 1 :] for command in story if command[0] == "python"]
    assert asked == [list(tasks[0].image_subjects), list(tasks[0].world.subjects)]
