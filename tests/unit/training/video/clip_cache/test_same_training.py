"""Training gives the same weights, bit for bit, however a cache is filled, and without a cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.training.video.clip_cache.toy_clips import CLIPS, CPU, recipe, task_config
from videocrafter.data.errors import TooManyBadSamplesError
from videocrafter.training.config import RecipeConfig
from videocrafter.training.registry import build_task
from videocrafter.training.run import train
from videocrafter.training.tracking.log import read_log
from videocrafter.training.video import frozen_networks
from videocrafter.training.video.clip_cache.config import CacheConfig, CacheError
from videocrafter.training.video.clip_cache.filling import fill_caches
from videocrafter.training.video.lora import LoraTraining

pytestmark = pytest.mark.slow

Learned = tuple[list[dict[str, Any]], dict[str, torch.Tensor]]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def learned(run: Path) -> Learned:
    """Return every logged loss, and all final weights."""
    told = ("kind", "step", "loss", "loss_clips", "loss_images", "grad_norm")
    log = [{name: entry.get(name) for name in told} for entry in read_log(run)]
    weights: dict[str, torch.Tensor] = {}
    for file in sorted((run / "final").rglob("*.safetensors")):
        weights |= {f"{file.parent.name}/{name}": value for name, value in load_file(file).items()}
    return log, weights


def trained(wanted: RecipeConfig, run: Path) -> Learned:
    assert train(wanted, run, device="cpu").finished
    return learned(run)


def assert_same(one: Learned, other: Learned) -> None:
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    assert [name for name, value in one[1].items() if not torch.equal(value, other[1][name])] == []


def never_read(*_: object) -> None:
    raise AssertionError("a frozen network is read")


@pytest.fixture
def start(request: pytest.FixtureRequest, t2v_start: Path, i2v_start: Path) -> Path:
    return i2v_start if request.param == "i2v" else t2v_start


def wanted(start: Path, how: str, **cache: object) -> RecipeConfig:
    """Return a recipe that trains on clips and images; its phase follows from the starting model."""
    changes: dict[str, object] = {"lora": LoraTraining(rank=2)} if how == "lora" else {"image_dropout": 0.2}
    return recipe(start, task_config(CacheConfig(**cache), **changes), ema_decay=0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(("start", "how"), [("i2v", "all"), ("t2v", "lora")], indirect=["start"])
def test_filled_ahead_filled_meanwhile_and_without_a_cache_the_same_is_learned(
    start: Path, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = trained(wanted(start, how, variants=2), tmp_path / "without")
    assert {entry["kind"] for entry in without[0]} >= {"train", "validation"}
    assert any(entry["loss_images"] for entry in without[0])
    assert any(entry["loss_clips"] for entry in without[0])
    meanwhile = {"folder": str(tmp_path / "meanwhile"), "dtype": "fp32", "variants": 2}
    assert_same(trained(wanted(start, how, **meanwhile), tmp_path / "run"), without)
    # The cache of that training suffices.
    assert_same(trained(wanted(start, how, **meanwhile, fill="never"), tmp_path / "again"), without)
    ahead = {"folder": str(tmp_path / "ahead"), "dtype": "fp32", "variants": 2}
    outcome = fill_caches(wanted(start, how, **ahead), device="cpu")
    assert outcome.filled.finished
    monkeypatch.setattr(frozen_networks, "_read", never_read)
    assert_same(trained(wanted(start, how, **ahead, fill="never"), tmp_path / "read"), without)


def test_of_what_is_kept_in_half_precision_the_same_is_learned_however_it_came_there(
    t2v_start: Path, tmp_path: Path
) -> None:
    meanwhile = trained(wanted(t2v_start, "all", folder=str(tmp_path / "meanwhile"), variants=2), tmp_path / "run")
    ahead = {"folder": str(tmp_path / "ahead"), "variants": 2}
    fill_caches(wanted(t2v_start, "all", **ahead), device="cpu")
    assert_same(trained(wanted(t2v_start, "all", **ahead, fill="never"), tmp_path / "read"), meanwhile)


def test_networks_that_run_in_bf16_lose_nothing_by_being_kept_in_it(t2v_start: Path, tmp_path: Path) -> None:
    def in_bf16(**cache: object) -> RecipeConfig:
        return recipe(t2v_start, task_config(CacheConfig(**cache), frozen_weights="bf16"))  # type: ignore[arg-type]

    without = trained(in_bf16(variants=2), tmp_path / "without")
    assert_same(trained(in_bf16(variants=2, folder=str(tmp_path / "kept")), tmp_path / "run"), without)


def test_a_run_that_was_stopped_goes_on_with_a_cache_as_if_nothing_had_happened(
    t2v_start: Path, tmp_path: Path
) -> None:
    cache = {"folder": str(tmp_path / "kept"), "variants": 2}
    whole = trained(wanted(t2v_start, "all", **cache), tmp_path / "whole")
    once_more = {"folder": str(tmp_path / "other"), "variants": 2}
    run = tmp_path / "run"
    stopped = train(wanted(t2v_start, "all", **once_more), run, device="cpu", stop_after_s=1e-6)
    assert not stopped.finished
    stopped = train(wanted(t2v_start, "all", **once_more, fill="missing"), run, device="cpu", stop_after_s=1e-6)
    assert not stopped.finished
    assert_same(trained(wanted(t2v_start, "all", **once_more), run), whole)


def test_both_phases_of_image_to_video_share_a_cache(t2v_start: Path, i2v_start: Path, tmp_path: Path) -> None:
    def both(**cache: object) -> RecipeConfig:
        task = task_config(
            CacheConfig(variants=2, **cache),  # type: ignore[arg-type]
            CLIPS,
            phase="image_mapping",
            image_tower=str(i2v_start),
            image_queries=3,
            image_dropout=0.2,
        )
        mapping = recipe(t2v_start, task, num_steps=3).stages[0]
        video = replace(mapping, name="video", task=replace(task, phase="image_to_video"))
        return replace(recipe(t2v_start, task), stages=(mapping, video))

    without = trained(both(), tmp_path / "without")
    kept = both(folder=str(tmp_path / "kept"), dtype="fp32")
    outcome = fill_caches(kept, device="cpu")
    assert (outcome.filled.added, outcome.filled.left_out) == (10, 0)
    assert_same(trained(both(folder=str(tmp_path / "kept"), dtype="fp32", fill="never"), tmp_path / "run"), without)
    assert (tmp_path / "run/final/image_encoder/model.safetensors").is_file()


def test_samples_bring_the_networks_that_were_not_needed_before(
    i2v_start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "kept")
    plain = recipe(i2v_start, task_config(CacheConfig(folder=folder)), num_steps=2, sample_every=2)
    fill_caches(plain, device="cpu")
    read: list[str] = []
    original = frozen_networks._read
    monkeypatch.setattr(frozen_networks, "_read", lambda name, *rest: (read.append(name), original(name, *rest))[1])
    never = task_config(CacheConfig(folder=folder, fill="never"))
    train(recipe(i2v_start, never, num_steps=1), tmp_path / "quiet", device="cpu")
    assert read == []
    train(recipe(i2v_start, never, num_steps=2, sample_every=2), tmp_path / "shown", device="cpu")
    assert sorted(read) == ["image_encoder", "text_encoder", "vae"]
    assert (tmp_path / "shown/samples/clips-step-00000002/sample-00.mp4").is_file()


def test_validation_of_clips_that_no_cache_has_brings_the_networks(
    t2v_start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "kept")
    fill_caches(recipe(t2v_start, task_config(CacheConfig(folder=folder))), device="cpu")
    files = sorted((tmp_path / "kept").iterdir())
    read: list[str] = []
    original = frozen_networks._read
    monkeypatch.setattr(frozen_networks, "_read", lambda name, *rest: (read.append(name), original(name, *rest))[1])
    never = task_config(CacheConfig(folder=folder, fill="never"))
    others = replace(never.validation, sources=("sprites:?num_clips=2&num_frames=6&height=16&width=16&seed=5",))
    train(recipe(t2v_start, replace(never, validation=others), num_steps=1), tmp_path / "run", device="cpu")
    assert sorted(read) == ["text_encoder", "vae"]
    assert sorted((tmp_path / "kept").iterdir()) == files, "nothing is added with fill 'never'"


def test_what_is_missing_and_may_not_be_made_ends_the_run_by_name(t2v_start: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "kept")
    fewer = "sprites:?num_clips=3&num_frames=6&height=16&width=20"
    fill_caches(recipe(t2v_start, task_config(CacheConfig(folder=folder), fewer)), device="cpu")
    never = task_config(CacheConfig(folder=folder, fill="never"), CLIPS)
    with pytest.raises(CacheError, match=r"not contain cut 0 of sprites:0/video/\d, and cache.fill is 'never'"):
        train(recipe(t2v_start, never), tmp_path / "run", device="cpu")


def test_a_stage_of_other_size_is_refused_before_it_begins(t2v_start: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "kept")
    task = task_config(CacheConfig(folder=folder), CLIPS)
    fill_caches(recipe(t2v_start, task), device="cpu")
    larger = replace(task, data=replace(task.data, cutting=replace(task.data.cutting, height=32)))
    with pytest.raises(CacheError, match=f"cache in {folder} was made with .*cutting.height was 16, now 32"):
        build_task(larger, t2v_start, 0, 0, CPU)


def test_bad_clips_count_as_without_a_cache(t2v_start: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for number in range(6):
        (clips / f"{number}.mp4").write_bytes(b"nonsense")
        (clips / f"{number}.txt").write_text("a cat")
    ended = []
    for settings in ({"variants": 2}, {"folder": str(tmp_path / "kept"), "variants": 2}):
        for again in range(2):
            task = task_config(CacheConfig(**settings), str(clips))  # type: ignore[arg-type]
            strict = replace(task, data=replace(task.data, bad_samples=type(task.data.bad_samples)()))
            run = tmp_path / f"{len(settings)}-{again}-{len(ended)}"
            with pytest.raises(TooManyBadSamplesError) as caught:
                train(recipe(t2v_start, strict), run, device="cpu")
            ended.append(str(caught.value).replace(str(run), ""))
    assert len(set(ended)) == 1, ended
