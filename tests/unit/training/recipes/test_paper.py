"""Recipes for clips from files match the paper (table of stages; sections 3.1 and 3.2)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from videocrafter.presets import PRESETS
from videocrafter.training.config import RecipeConfig, StageConfig
from videocrafter.training.recipes.by_name import RECIPES
from videocrafter.training.recipes.overrides import apply_overrides
from videocrafter.training.recipes.paper import ClipDiffusionTaskConfig
from videocrafter.training.video.lora import LoraTraining

PAPER = ("t2v-256", "t2v-512", "t2v-1024", "i2v-512")
RECIPES_GUIDE = Path(__file__).parents[4] / "docs" / "recipes.md"
ADAPTATION = ("finetune", "lora", "temporal-only", "overfit-one-clip")


def task_of(stage: StageConfig) -> ClipDiffusionTaskConfig:
    assert isinstance(stage.task, ClipDiffusionTaskConfig)
    return stage.task


def only_stage(name: str) -> StageConfig:
    (stage,) = RECIPES[name]().stages
    return stage


@pytest.mark.parametrize(
    ("name", "height", "width", "num_steps", "batch"),
    [("t2v-256", 256, 256, 80_000, 256), ("t2v-512", 320, 512, 136_000, 128), ("t2v-1024", 576, 1024, 45_000, 64)],
)
def test_the_stages_of_text_to_video(name: str, height: int, width: int, num_steps: int, batch: int) -> None:
    stage = only_stage(name)
    task, data = task_of(stage), task_of(stage).data
    assert (data.cutting.height, data.cutting.width, stage.num_steps) == (height, width, num_steps)
    assert data.batch_size * stage.optimizer.accumulate == batch
    assert f"at batch {batch}," in str(RECIPES[name].__doc__)
    assert data.image_batch_size is not None
    assert data.image_share is not None
    passes = stage.optimizer.accumulate
    clips, images = (
        (1 - data.image_share) * passes * data.batch_size,
        data.image_share * passes * data.image_batch_size,
    )
    row = f"{passes} | {data.image_batch_size} | {clips:.0f} clips, {images:.0f} images |"
    assert f"| {batch} | {data.batch_size} × {row}" in RECIPES_GUIDE.read_text(encoding="utf-8")
    assert data.cutting.sampling.lengths == (16,)
    assert task.phase == "text_to_video"
    assert task.timestep_power == 1.0
    assert task.offset_noise == 0.0
    assert task.text_dropout > 0, "guidance needs the empty caption"


@pytest.mark.parametrize("name", PAPER)
def test_images_and_videos_are_learned_jointly(name: str) -> None:
    """One pass in eight is of images, with eight times as many samples: eight images for every seven clips."""
    for stage in RECIPES[name]().stages:
        data = task_of(stage).data
        assert data.image_share == 1 / 8
        assert data.image_batch_size == 8 * data.batch_size
        assert stage.optimizer.accumulate >= 8, "so that a step mostly has both kinds"


def test_image_to_video_has_the_papers_two_phases() -> None:
    mapping, video = RECIPES["i2v-512"]().stages
    assert [task_of(stage).phase for stage in (mapping, video)] == ["image_mapping", "image_to_video"]
    for stage in (mapping, video):
        task = task_of(stage)
        assert (task.data.cutting.height, task.data.cutting.width) == (320, 512)
        assert (task.text_dropout, task.image_dropout, task.both_dropout) == (0.05, 0.05, 0.05)
        assert task.condition_frame == "random"
    assert task_of(mapping) == replace(task_of(video), phase="image_mapping"), "nothing but the phase differs"
    assert mapping.ema_decay == video.ema_decay


def scales_in_the_guide() -> dict[str, str]:
    table = RECIPES_GUIDE.read_text(encoding="utf-8").split("| recipe | `signal_scale` | why |")[1].split("\n\n")[0]
    rows = [line.replace("`", "").split("|") for line in table.splitlines()[2:]]
    return {name.strip(): value.split(":")[0].strip() for _, names, value, *_ in rows for name in names.split(",")}


@pytest.mark.parametrize("name", [*PAPER, *ADAPTATION])
def test_the_signal_scale_is_the_official_models_where_all_learns_and_else_the_starts(name: str) -> None:
    wanted = {"t2v-1024": PRESETS["t2v-1024"].signal_scale}
    assert {task_of(stage).signal_scale for stage in RECIPES[name]().stages} == {wanted.get(name)}
    assert scales_in_the_guide()[name] == str(wanted.get(name, "none")), "and docs/recipes.md says so"


@pytest.mark.parametrize("name", PAPER)
def test_long_runs_are_guarded_and_saved(name: str) -> None:
    for stage in RECIPES[name]().stages:
        assert stage.guard.spike > 1
        assert 0 < stage.checkpoint_every <= 1000
        assert stage.checkpoint_seconds > 0
        assert stage.optimizer.warmup_steps > 0
        assert stage.optimizer.grad_clip is not None
        assert stage.ema_decay >= 0.999
        assert task_of(stage).gradient_checkpointing


@pytest.mark.parametrize("name", ADAPTATION)
def test_adaptation_takes_one_clip_at_a_time_and_is_looked_at_often(name: str) -> None:
    stage = only_stage(name)
    assert task_of(stage).data.batch_size == 1
    assert task_of(stage).data.image_share is None, "sources of clips alone need no setting"
    assert 0 < stage.validate_every <= 250
    assert 0 < stage.sample_every <= 250
    assert stage.num_steps <= 5000


def test_what_each_adaptation_trains() -> None:
    assert task_of(only_stage("finetune")).phase == "text_to_video"
    assert task_of(only_stage("finetune")).lora is None
    assert task_of(only_stage("temporal-only")).phase == "temporal_only"
    assert task_of(only_stage("lora")).lora == LoraTraining()
    assert only_stage("finetune").optimizer.lr < only_stage("temporal-only").optimizer.lr


def test_one_clip_is_always_cut_in_the_same_way() -> None:
    task = task_of(only_stage("overfit-one-clip"))
    sampling = task.data.cutting.sampling
    assert task.data.one_clip
    assert (sampling.fps_range, sampling.start) == (None, "first")
    assert (task.data.cutting.crop, task.data.cutting.flip, task.data.shuffle) == ("center", False, False)
    assert (task.text_dropout, task.image_dropout, task.both_dropout) == (0, 0, 0)


@pytest.mark.parametrize("name", [*PAPER, *ADAPTATION])
def test_recipes_name_no_start_and_no_data(name: str) -> None:
    recipe = RECIPES[name]()
    assert recipe.init is None
    assert all(task_of(stage).data.sources == () for stage in recipe.stages)


@pytest.mark.parametrize(
    ("name", "setting", "said"),
    [
        ("t2v-256", "stages.*.task.data.image_share=2", "image_share is 2.0, expected a fraction from 0 to 1"),
        ("t2v-256", "stages.*.task.data.epochs=1", "data.epochs is 1"),
        ("t2v-256", "stages.*.task.data.cutting.sampling.lengths=1", "each 2 or more"),
        ("t2v-256", "stages.*.task.signal_scale=3", "signal_scale is 3.0"),
        ("t2v-256", "stages.*.task.samples.count=0", "samples.count is 0"),
        ("t2v-256", "stages.*.task.validation.timesteps=1000", "validation.timesteps"),
        ("t2v-256", "stages.*.task.phase=image", "phase=image: expected one of images, text_to_video"),
        ("t2v-256", "stages.*.task.frozen_weights=fp16", "frozen_weights=fp16: expected one of auto, fp32, bf16"),
        ("t2v-256", "stages.*.task.encoded_frames=0", "encoded_frames is 0"),
        ("lora", "stages.*.task.lora.alpha=0", "lora.alpha is 0.0"),
        ("lora", "stages.*.task.lora.layer=temporal", "did you mean stages.lora.task.lora.layers?"),
        ("lora", "stages.*.task.phase=temporal_only", "phase is 'temporal_only' with a LoRA"),
        ("i2v-512", "stages.mapping.task.image_queries=0", "image_queries is 0"),
    ],
)
def test_wrong_settings_are_refused_when_they_are_given(name: str, setting: str, said: str) -> None:
    with pytest.raises(ValueError) as error:
        apply_overrides(RECIPES[name](), [setting])
    assert said in str(error.value)


def test_what_changes_nothing_that_is_learned_may_change_between_two_runs() -> None:
    import json

    from videocrafter.training.resolved_config import changes, to_json

    recipe: RecipeConfig = RECIPES["t2v-256"]()
    saved = json.loads(to_json(recipe))
    harmless = ["num_workers=1", "prefetch_batches=5", "start_method=fork"]
    settings = [f"stages.*.task.data.{setting}" for setting in harmless]
    settings += ["stages.*.task.samples.count=4", "stages.*.task.validation.num_clips=3"]
    found = changes(saved, apply_overrides(recipe, settings))
    assert len(found) == 5
    assert all(change.harmless for change in found)
    serious = apply_overrides(recipe, ["stages.*.task.data.batch_size=3", "stages.*.task.text_dropout=0.2"])
    assert [change.harmless for change in changes(saved, serious)] == [False, False]
