"""Train every recipe for clips from files at toy size on the command line, and generate with the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.command_line import Result, call
from tests.tiny_clips import SPRITE_IMAGES, SPRITES, write_clips
from tests.tiny_models import save_tiny_pipeline
from videocrafter.diffusion.ddim import OfficialDDIMScheduler
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.training.recipes.by_name import RECIPES
from videocrafter.training.tracking.log import read_log

PAPER = ("t2v-256", "t2v-512", "t2v-1024", "i2v-512")
ADAPTATION = ("finetune", "lora", "temporal-only", "overfit-one-clip", "distill", "distill-lora")
SMALL = {
    "num_steps": 2,
    "precision": "fp32",
    "optimizer.accumulate": 2,
    "optimizer.warmup_steps": 0,
    "optimizer.lr": 1e-2,
    "task.frozen_weights": "fp32",
    "task.base_weights": "fp32",
    "task.samples.num_inference_steps": 1,
    "task.samples.count": 1,
    "task.validation.num_clips": 2,
    "task.validation.timesteps": 500,
    "task.data.batch_size": 2,
    "task.data.num_workers": 0,
}
FRAMES = {
    "task.data.cutting.height": 16,
    "task.data.cutting.width": 16,
    "task.data.cutting.sampling.lengths": 4,
}


def command(*arguments: object) -> Result:
    return call(arguments)


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("starts")
    made = {name: save_tiny_pipeline(root / name, image=name == "i2v") for name in ("t2v", "i2v")}
    pipeline = load_pipeline(made["t2v"])
    pipeline.scheduler = OfficialDDIMScheduler()
    pipeline.save_pretrained(root / "paper's schedule")
    return {**made, "t2v-1024": root / "paper's schedule"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"), 2)


def miniature(name: str) -> list[str]:
    """Settings for toy size. A recipe that takes the video size of its start does not set one."""
    task: Any = RECIPES[name]().stages[0].task
    values = SMALL if getattr(task, "frames_like_start", False) else {**SMALL, **FRAMES}
    if name in PAPER:
        values = {**values, "task.data.image_batch_size": 3}
    if name.startswith("distill"):  # each pass runs teacher, student and average
        values = {**values, "optimizer.accumulate": 1}
    return [part for path, value in values.items() for part in ("--set", f"stages.*.{path}={value}")]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_pipeline(folder).unet.state_dict()
    return state


@pytest.mark.parametrize("name", [*PAPER, *ADAPTATION])
def test_a_recipe_trains_and_its_result_makes_videos(
    name: str, starts: dict[str, Path], clips: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    data = ("--data", SPRITES, "--data", SPRITE_IMAGES) if name in PAPER else ("--data", clips)
    tower = ("--set", f"stages.*.task.image_tower={starts['i2v']}") if name == "i2v-512" else ()
    start = starts.get(name, starts["t2v"])
    trained = command(
        "train", name, "--init", start, *data, *tower, *miniature(name), "-o", output, "--device", "cpu"
    )
    assert trained.exit_code == 0, trained.stderr
    assert f"Finished: {output / 'final'}" in trained.stderr
    stages = [stage.name for stage in RECIPES[name]().stages]
    log = read_log(output)
    assert [line["stage"] for line in log if line["kind"] == "validation"] == stages
    for stage in stages:
        samples = output / "samples" / f"{stage}-step-00000002"
        assert sorted(path.name for path in samples.iterdir()) == ["sample-00.mp4", "samples.png"]

    if "lora" not in name:
        assert load_pipeline(output / "final").config["signal_scale"] == (0.3 if name == "t2v-1024" else None)
        before, after = weights(start), weights(output / "final")
        changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
        kept = set(before) - changed
        if name == "temporal-only":
            assert changed == {key for key in before if "temporal" in key or key.startswith(("fps_", "frame_text_"))}
        elif name == "i2v-512":
            assert kept == {key for key in before if "cross_attention.to_k" in key or "cross_attention.to_v" in key}
            assert len(after) > len(before)
        else:
            assert kept == set()

    model = ("--model", output / "final")
    if "lora" in name:
        model = ("--model", starts["t2v"], "--lora", output / "final")
    picture = ("--image", output / "samples" / "video-step-00000002" / "samples.png") if name == "i2v-512" else ()
    made = command(
        "generate", "a rocket moving left", *model, *picture, "-o", tmp_path / "made.mp4", "--device", "cpu"
    )
    assert made.exit_code == 0, made.stderr
    assert (tmp_path / "made.mp4").stat().st_size > 0


@pytest.mark.parametrize("name", [*PAPER, *ADAPTATION])
def test_a_dry_run_needs_neither_start_nor_data(name: str, tmp_path: Path) -> None:
    shown = command("train", name, "--dry-run")
    assert shown.exit_code == 0, shown.stderr
    recipe = json.loads(shown.stdout)
    assert (recipe["name"], recipe["init"]) == (name, None)
    given = command("train", name, "--dry-run", "--init", "tiny-t2v", "--data", "a", "--data", "webvid:b?root=c")
    recipe = json.loads(given.stdout)
    assert recipe["init"] == "tiny-t2v"
    assert [stage["task"]["data"]["sources"] for stage in recipe["stages"]] == [["a", "webvid:b?root=c"]] * len(
        recipe["stages"]
    )
