"""Both phases of the image-to-video recipe at toy size, from a trained text-to-video model."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.tiny_parts import NETWORK, WORLD, fill_zeros, save_parts, video_task
from videocrafter.data.sprite_world.world import SpriteWorld
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.training.config import RecipeConfig
from videocrafter.training.recipes.miniature import tiny_i2v
from videocrafter.training.recipes.overrides import apply_overrides
from videocrafter.training.run import train
from videocrafter.training.tracking.log import read_log

Weights = dict[str, torch.Tensor]

SMALLER = {
    "num_steps": 3,
    "precision": "fp32",
    "optimizer.warmup_steps": 0,
    "validate_every": 3,
    "sample_every": 3,
    "task.num_clips": 8,
    "task.num_images": 4,
    "task.batch_size": 4,
    "task.image_batch_size": 4,
    "task.block_size": 2,
    "task.num_gauged": 2,
    "task.num_samples": 2,
    "task.sampling_steps": 2,
}


def toy_recipe(init: Path, parts: Path) -> RecipeConfig:
    """`tiny-i2v` up to its first stage of phase 2, with a toy network and world."""
    whole = tiny_i2v()
    first = replace(whole, stages=whole.stages[:3])
    recipe = apply_overrides(first, [f"stages.*.{path}={value}" for path, value in SMALLER.items()])
    stages = tuple(
        replace(stage, task=replace(stage.task, network=NETWORK, world=WORLD, towers=str(parts)))
        for stage in recipe.stages
    )
    return replace(recipe, init=str(init), stages=stages)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The text-to-video start, the run, and its folders after each phase."""
    root = tmp_path_factory.mktemp("i2v")
    parts = save_parts(root / "parts")
    start = video_task(parts)
    fill_zeros(start.unet)
    start.save_pipeline(root / "t2v")
    outcome = train(toy_recipe(root / "t2v", parts), root / "run", device="cpu")
    assert outcome.finished
    stages = root / "run" / "stages"
    return {
        "start": root / "t2v",
        "parts": parts,
        "run": root / "run",
        "mapping": stages / "mapping",
        "video": stages / "low",
    }


def weights(folder: Path, part: str) -> Weights:
    network: nn.Module = getattr(load_pipeline(folder), part)
    return network.state_dict()


def changed(before: Weights, after: Weights) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_phase_1_trains_the_mapping_and_not_the_video_model(folders: dict[str, Path]) -> None:
    before, after = weights(folders["start"], "unet"), weights(folders["mapping"], "unet")
    assert changed(before, after) == set()
    new = set(after) - set(before)
    assert new
    assert all(name.endswith(("to_k_image.weight", "to_v_image.weight")) for name in new)
    assert all(after[name].any() for name in new), "zero-initialised weights were trained"


def test_phase_2_trains_the_video_model_and_not_the_mappings(folders: dict[str, Path]) -> None:
    before, after = weights(folders["mapping"], "unet"), weights(folders["video"], "unet")
    kept = set(before) - changed(before, after)
    assert kept == {name for name in before if "cross_attention.to_" in name and ".to_out" not in name} - {
        name for name in before if name.endswith("cross_attention.to_q.weight")
    }
    projectors = weights(folders["mapping"], "image_projector"), weights(folders["video"], "image_projector")
    assert changed(*projectors) == set()


def test_the_projector_learned_in_the_first_phase(folders: dict[str, Path]) -> None:
    from videocrafter.training.miniature.diffusion import VideoDiffusionTask
    from videocrafter.training.randomness import seed_global_generators
    from videocrafter.training.registry import build_task

    # The projector at the start of the stage, with the same random initialisation as in the run.
    recipe = toy_recipe(folders["start"], folders["parts"])
    with torch.random.fork_rng():
        seed_global_generators(recipe.seed, "mapping", "build")
        task = build_task(recipe.stages[0].task, folders["start"], recipe.seed, 0, torch.device("cpu"))
    assert isinstance(task, VideoDiffusionTask)
    assert task.projector is not None
    began, ended = task.projector.state_dict(), weights(folders["mapping"], "image_projector")
    assert changed(began, ended) == set(began)


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_autoencoder_and_text_encoder_are_unchanged(folders: dict[str, Path], part: str) -> None:
    assert changed(weights(folders["start"], part), weights(folders["run"] / "final", part)) == set()


def test_every_stage_is_a_pipeline_and_the_last_one_is_final(folders: dict[str, Path]) -> None:
    load_pipeline(folders["start"], expect=TextToVideoPipeline)
    world = SpriteWorld(WORLD)
    picture = (world.render([world.script(0)])[0, 0] + 1) / 2
    videos = []
    for folder in (folders["mapping"], folders["video"], folders["run"] / "final"):
        pipeline = load_pipeline(folder, expect=ImageToVideoPipeline)
        assert asdict(pipeline.generation_defaults)["num_frames"] == WORLD.num_frames
        pipeline.set_progress_bar_config(disable=True)
        videos.append(pipeline(picture, "it moves left", seeds=1, output_type="pt").frames)
    assert torch.equal(videos[1], videos[2])
    assert not torch.equal(videos[0], videos[1])


def test_all_stages_log_their_gauges_and_write_samples(folders: dict[str, Path]) -> None:
    log = [entry for entry in read_log(folders["run"]) if entry["kind"] == "validation"]
    assert [entry["stage"] for entry in log] == ["align", "mapping", "low"]
    assert all("gauge_left_right" in entry for entry in log)
    sheets = sorted(path.parent.name for path in (folders["run"] / "samples").glob("*/samples.png"))
    assert sheets == ["align-step-00000003", "low-step-00000003", "mapping-step-00000003"]
