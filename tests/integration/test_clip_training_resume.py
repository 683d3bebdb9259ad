"""Training on clips that is stopped or killed and resumed equals uninterrupted training bit by bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.same_state import assert_same
from tests.tiny_clips import SPRITE_IMAGES, SPRITES, clip_recipe, write_clips
from tests.tiny_models import save_tiny_pipeline
from videocrafter.checkpoints.lora.lora_file import LORA_FILE
from videocrafter.data.loader import VideoLoader
from videocrafter.training.config import GuardConfig, RecipeConfig, SettingsError
from videocrafter.training.parallel import precision
from videocrafter.training.randomness import derive_seed
from videocrafter.training.run import train
from videocrafter.training.tracking.log import read_log
from videocrafter.training.tracking.log_keys import TIMING_KEYS
from videocrafter.training.video.lora import LoraTraining
from videocrafter.training.video.task import ClipDiffusionTask

pytestmark = pytest.mark.slow

STEPS = 4


class KilledError(Exception):
    """Ends a run without saving anything."""


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("start") / "t2v", image=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"), 5)


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int | None], None]]:
    """Return a function that makes the next run fail at the pass with this number, from 0."""
    passes = [0, -1]
    loss = ClipDiffusionTask.loss

    def counted(task: ClipDiffusionTask, batch: Any, generator: torch.Generator) -> Any:
        passes[0] += 1
        if passes[0] - 1 == passes[1]:
            raise KilledError
        return loss(task, batch, generator)

    def end_at(number: int | None) -> None:
        passes[:] = [0, -1 if number is None else number]

    monkeypatch.setattr(ClipDiffusionTask, "loss", counted)
    yield end_at
    end_at(None)


@pytest.fixture
def bf16_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring the precision always chooses bf16."""
    seconds = precision._seconds_of_pass

    def measured(*given: Any) -> float:
        assert seconds(*given) > 0
        return 1.0 if given[-1] == "fp32" else 0.5

    monkeypatch.setattr(precision, "_seconds_of_pass", measured)
    monkeypatch.setattr(precision, "emulates_bf16", lambda: False)


def assert_same_run(one: Path, other: Path) -> None:
    """Compare weights, EMA, optimizer, data position, the final pipeline and the log."""
    last = f"checkpoints/clips-step-{STEPS:08d}"
    states = [torch.load(root / last / "training_state/state.pt", weights_only=True) for root in (one, other)]
    for state in states:
        del state["seconds"]
    assert_same(*states)
    names = {path.relative_to(one / "final").as_posix() for path in (one / "final").rglob("*") if path.is_file()}
    assert {name for name in names if name.endswith(".safetensors")}
    for name in [f"{last}/training_state/data.json", *(f"final/{name}" for name in names - {"training.json"})]:
        if name.endswith(LORA_FILE):  # The order of the header's entries is arbitrary.
            assert_same(load_file(one / name), load_file(other / name))
        else:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    logs = [
        [{k: v for k, v in line.items() if k not in TIMING_KEYS} for line in read_log(root)] for root in (one, other)
    ]
    assert logs[0] == logs[1]


def test_a_run_killed_and_stopped_several_times(
    start: Path, folder: Path, tmp_path: Path, kill_at: Callable[[int | None], None]
) -> None:
    """Clips of one kind; each step is one pass."""
    recipe = clip_recipe(start, f"folder:{folder}", num_steps=STEPS, checkpoint_every=2, validate_every=3)
    assert train(recipe, tmp_path / "whole", device="cpu").finished
    output = tmp_path / "broken"
    for killed_at in (1, 3):  # before the first checkpoint, then between two checkpoints
        kill_at(killed_at)
        with pytest.raises(KilledError):
            train(recipe, output, device="cpu")
    kill_at(None)
    assert train(recipe, output, device="cpu", stop_after_s=0.0).step == 3, "saved between two checkpoints"
    assert train(recipe, output, device="cpu").finished
    assert_same_run(tmp_path / "whole", output)


def test_images_and_clips_workers_and_a_precision_that_is_measured(
    start: Path, folder: Path, tmp_path: Path, kill_at: Callable[[int | None], None], bf16_is_faster: None
) -> None:
    """Two passes per step, killed in a second pass; decoded in this process in one run, by two workers in the other.

    Five clips do not fill batches of three, so samples wait for the next epoch.
    """
    data = {"image_share": 0.5, "batch_size": 3, "image_batch_size": 2, "seed": 2}
    task = {"data": data, "text_dropout": 0.3, "gradient_checkpointing": True}
    settings: dict[str, Any] = {
        "num_steps": STEPS,
        "accumulate": 2,
        "precision": "auto",
        "checkpoint_every": 2,
        "validate_every": 4,
    }
    recipe = clip_recipe(start, f"folder:{folder}", SPRITE_IMAGES, task=task, **settings)
    assert train(recipe, tmp_path / "whole", device="cpu").finished
    with_workers = clip_recipe(
        start, f"folder:{folder}", SPRITE_IMAGES, task={**task, "data": {**data, "num_workers": 2}}, **settings
    )
    output = tmp_path / "broken"
    kill_at(4 + 2 * 2 + 1)  # four passes measure the precision
    with pytest.raises(KilledError):
        train(with_workers, output, device="cpu")
    kill_at(None)
    assert train(recipe, output, device="cpu").finished, "the number of workers may change on resume"
    assert_same_run(tmp_path / "whole", output)
    trained = [line for line in read_log(output) if line["kind"] == "train"]
    assert {"loss_images", "loss_clips"} <= {name for line in trained for name in line}
    assert json.loads((output / "choices.json").read_text())["clips"]["precision"] == "bf16"


def test_a_lora_with_dropout(start: Path, tmp_path: Path, kill_at: Callable[[int | None], None]) -> None:
    task = {"lora": LoraTraining(rank=2, dropout=0.3), "data": {"batch_size": 1}}
    recipe = clip_recipe(start, SPRITES, num_steps=STEPS, checkpoint_every=2, task=task)
    assert train(recipe, tmp_path / "whole", device="cpu").finished
    kill_at(3)
    with pytest.raises(KilledError):
        train(recipe, tmp_path / "broken", device="cpu")
    kill_at(None)
    assert train(recipe, tmp_path / "broken", device="cpu").finished
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def plain_order(recipe: RecipeConfig, count: int) -> list[list[str]]:
    """The samples of each batch in the order of the data, read without training."""
    data = recipe.stages[0].task.data  # type: ignore[attr-defined]
    with VideoLoader(replace(data, seed=derive_seed(recipe.seed, 0, data.seed) % 2**32)) as loader:
        return [list(batch.keys) for _, batch in zip(range(count), loader, strict=False)]


def test_after_bad_steps_the_stage_rolls_back_and_its_data_continue(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 2 and 3 of the data are bad; after each, the stage rolls back to the weights of step 2."""
    bad, killing = {2, 3}, [99]
    drawn: list[tuple[int, list[str]]] = []
    batch_of, loss_of = ClipDiffusionTask.batch, ClipDiffusionTask.loss

    def batch(task: ClipDiffusionTask, step: int, micro_step: int = 0) -> Any:
        if step == killing[0]:
            raise KilledError
        found = batch_of(task, step, micro_step)
        drawn.append((step, list(found.keys)))
        return found

    def loss(task: ClipDiffusionTask, given: Any, generator: torch.Generator) -> Any:
        value, metrics = loss_of(task, given, generator)
        return (value * float("nan") if drawn[-1][0] in bad else value), metrics

    monkeypatch.setattr(ClipDiffusionTask, "batch", batch)
    monkeypatch.setattr(ClipDiffusionTask, "loss", loss)
    guard = GuardConfig(skips=0, rollbacks=2)
    recipe = clip_recipe(start, SPRITES, num_steps=STEPS, accumulate=2, checkpoint_every=2, guard=guard)
    assert train(recipe, tmp_path / "whole", device="cpu").finished
    wanted = plain_order(recipe, 2 * (STEPS + 2))
    assert [keys for _, keys in drawn] == wanted, "every batch once, in order"
    noted = [json.loads(line) for line in (tmp_path / "whole/bad_batches.jsonl").read_text().splitlines()]
    assert [(line["step"], line["data_step"], line["micro_step"], line["batch"]) for line in noted] == [
        (3, 2, 0, wanted[4]),
        (3, 2, 1, wanted[5]),
        (3, 3, 0, wanted[6]),
        (3, 3, 1, wanted[7]),
    ]

    drawn.clear()
    killing[0] = 5  # after the bad steps, before the next checkpoint
    with pytest.raises(KilledError):
        train(recipe, tmp_path / "broken", device="cpu")
    killing[0] = 99
    drawn.clear()
    assert train(recipe, tmp_path / "broken", device="cpu").finished
    assert [keys for _, keys in drawn] == wanted[8:], "bad batches do not come again"
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_measuring_the_precision_loses_no_batch(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bf16_is_faster: None
) -> None:
    seen: list[list[str]] = []
    loss = ClipDiffusionTask.loss

    def listen(task: ClipDiffusionTask, batch: Any, generator: torch.Generator) -> Any:
        seen.append(list(batch.keys))
        return loss(task, batch, generator)

    monkeypatch.setattr(ClipDiffusionTask, "loss", listen)
    monkeypatch.setattr(precision, "emulates_bf16", lambda: False)
    recipe = clip_recipe(start, SPRITES, num_steps=2, accumulate=2, precision="auto")
    train(recipe, tmp_path, device="cpu")
    first, *rest = plain_order(recipe, 4)
    assert seen == [first] * 4 + [first, *rest]


def test_changed_data_start_again_only_with_accept_changes(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Resume the same command after a clip was added."""
    clips = write_clips(tmp_path / "clips", 3)
    recipe, output = clip_recipe(start, f"folder:{clips}", num_steps=STEPS), tmp_path / "run"
    train(recipe, output, device="cpu", stop_after_s=0.0)
    for suffix in (".mp4", ".txt"):
        shutil.copy(clips / f"0{suffix}", clips / f"9{suffix}")
    with pytest.raises(
        SettingsError, match=r"num_shards of .* was 3 and is 4; pass the same data, or --accept-changes"
    ):
        train(recipe, output, device="cpu")
    seen: list[list[str]] = []
    loss = ClipDiffusionTask.loss

    def listen(task: ClipDiffusionTask, batch: Any, generator: torch.Generator) -> Any:
        seen.append(list(batch.keys))
        return loss(task, batch, generator)

    monkeypatch.setattr(ClipDiffusionTask, "loss", listen)
    assert train(recipe, output, device="cpu", accept_changes=True).finished
    assert seen == plain_order(recipe, STEPS - 1)
    assert "num_shards" in caplog.text
    lines = [line["step"] for line in read_log(output) if line["kind"] == "train"]
    assert lines == [1, 2, 3, 4], "the weights continue"
