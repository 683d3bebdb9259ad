import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from typing import Any

import pytest

from videocrafter.checkpoints.stable_diffusion.image_network import image_network
from videocrafter.checkpoints.stable_diffusion.initialisation import video_unet_from_sd
from videocrafter.data.sprite_world.world import MOTIONS, SCENES, SUBJECTS
from videocrafter.models.unet import VideoUNet
from videocrafter.training.config import RecipeConfig
from videocrafter.training.miniature.autoencoder import AutoencoderTaskConfig
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.miniature.towers import ContrastiveTaskConfig
from videocrafter.training.recipes.by_name import RECIPES
from videocrafter.training.recipes.overrides import apply_overrides, setting_paths
from videocrafter.training.resolved_config import changes, to_json

ALL = pytest.mark.parametrize("name", RECIPES)


def network_of(task: VideoDiffusionTaskConfig) -> VideoUNet:
    return VideoUNet(**asdict(task.network))


def value_at(config: Any, path: str) -> Any:
    for key in path.split("."):
        if isinstance(config, tuple):
            config = next(item for item in config if item.name == key)
        else:
            config = getattr(config, key)
    return config


def as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(as_text, value))
    return "none" if value is None else str(value)


def video_tasks(recipe: RecipeConfig) -> Iterator[VideoDiffusionTaskConfig]:
    for stage in recipe.stages:
        assert isinstance(stage.task, VideoDiffusionTaskConfig)
        yield stage.task


@ALL
def test_a_recipe_is_a_configuration_that_can_be_saved(name: str) -> None:
    recipe = RECIPES[name]()
    assert recipe.name == name
    assert recipe == RECIPES[name](), "calling it again gives the same"
    assert changes(json.loads(to_json(recipe)), recipe) == []
    assert all(is_dataclass(stage.task) and hasattr(stage.task, "validation_metrics") for stage in recipe.stages)


@ALL
def test_every_setting_of_a_recipe_can_be_set(name: str) -> None:
    recipe = RECIPES[name]()
    paths = list(setting_paths(recipe))
    assert len(paths) > 30
    for path in paths:
        given = f"{path}={as_text(value_at(recipe, path))}"
        assert apply_overrides(recipe, [given]) == recipe, given


@ALL
def test_set_changes_one_stage_or_all(name: str) -> None:
    recipe = RECIPES[name]()
    changed = apply_overrides(recipe, ["stages.*.num_steps=7", f"stages.{recipe.stages[-1].name}.optimizer.lr=1e-5"])
    assert [stage.num_steps for stage in changed.stages] == [7] * len(recipe.stages)
    assert changed.stages[-1].optimizer.lr == 1e-5
    assert [stage.optimizer for stage in changed.stages[:-1]] == [stage.optimizer for stage in recipe.stages[:-1]]


@pytest.mark.parametrize("name", ["tiny-t2v", "smoke"])
def test_text_to_video_goes_from_low_to_full_resolution_with_the_whole_world(name: str) -> None:
    low, long, high = video_tasks(RECIPES[name]())
    assert {task.phase for task in (low, long, high)} == {"text_to_video"}
    for task in (low, long):
        assert (2 * task.world.height, 2 * task.world.width) == (high.world.height, high.world.width)
        assert task.image_world.height == high.world.height, "images keep the final size"
    assert (long.world.num_frames, long.world.fps_range) == (high.world.num_frames, high.world.fps_range)
    for ends in (0, 1):  # fewer frames at fewer frames per second: clips last as long
        assert low.world.num_frames / low.world.fps_range[ends] == pytest.approx(
            high.world.num_frames / high.world.fps_range[ends], rel=0.35
        )
    for task in (low, long, high):
        assert (task.world.subjects, set(task.world.motions), task.world.scenes) == (SUBJECTS, set(MOTIONS), SCENES)
    assert len(SUBJECTS) >= 24
    assert len(SCENES) >= 12
    assert len(MOTIONS) == 14


def test_motions_around_a_point_are_shown_most_often() -> None:
    for task in video_tasks(RECIPES["tiny-t2v"]()):
        shown = Counter(task.world.motions)
        assert {motion for motion in MOTIONS if shown[motion] > 1} == {"bouncing", "orbiting", "spinning"}


@pytest.mark.parametrize("name", ["tiny-t2v", "tiny-i2v", "smoke"])
def test_video_recipes_learn_from_the_training_split_only(name: str) -> None:
    for task in video_tasks(RECIPES[name]()):
        assert task.world.split == "train"
        assert task.text_dropout + task.both_dropout > 0, "guidance needs the empty caption"


@pytest.mark.parametrize("name", ["tiny-t2v", "smoke"])
def test_text_to_video_learns_from_images_too(name: str) -> None:
    assert all(0 < task.image_share < 1 for task in video_tasks(RECIPES[name]()))


def test_the_parts_fit_together() -> None:
    """A run checks this too, but only when the stage is built, hours after the parts were trained."""
    autoencoder, towers = (RECIPES[name]().stages[-1].task for name in ("tiny-vae", "tiny-clip"))
    assert isinstance(autoencoder, AutoencoderTaskConfig)
    assert isinstance(towers, ContrastiveTaskConfig)
    factor = autoencoder.patch * 2 ** (len(autoencoder.block_out_channels) - 1)
    for name in ("tiny-t2v", "smoke"):
        for task in video_tasks(RECIPES[name]()):
            network = task.network
            assert network.in_channels == network.out_channels == autoencoder.latent_channels
            assert network.context_dim == towers.width
            assert task.world.num_frames <= network.temporal_length == 16
            multiple = factor * 2 ** (len(network.channel_mult) - 1)
            assert task.world.height % multiple == task.world.width % multiple == 0
        assert network.temporal_length == RECIPES["tiny-t2v"]().stages[-1].task.world.num_frames


@pytest.mark.parametrize("name", ["tiny-vae", "tiny-clip"])
def test_stages_of_a_part_train_the_same_network(name: str) -> None:
    sizes = {"latent_channels", "patch", "block_out_channels", "norm_groups", "width", "text_layers", "image_layers"}
    tasks = [stage.task for stage in RECIPES[name]().stages]
    for size in sizes & set(vars(tasks[0])):
        assert len({getattr(task, size) for task in tasks}) == 1, size


def test_the_image_model_is_the_start_of_the_video_model() -> None:
    (stills,) = video_tasks(RECIPES["tiny-sd"]())
    *_, last = tasks = list(video_tasks(RECIPES["tiny-t2v"]()))
    autoencoder = RECIPES["tiny-vae"]().stages[-1].task
    assert isinstance(autoencoder, AutoencoderTaskConfig)
    weights = image_network(network_of(stills)).state_dict()
    assert video_unet_from_sd(weights, asdict(last.network)).config["place_condition"]
    for task in (stills, *tasks):
        assert task.noise == last.noise
        assert task.network.in_channels == autoencoder.latent_channels
        assert task.image_world.height == 128
        assert task.world.diameter == last.world.diameter
        assert task.autoencoder == "tiny-t2v"
        assert task.world.num_frames <= last.network.temporal_length


def test_image_to_video_aligns_then_has_the_papers_phases_at_low_resolution_first() -> None:
    recipe = RECIPES["tiny-i2v"]()
    assert recipe.init == "tiny-t2v"
    tasks = list(video_tasks(recipe))
    low, _, high = video_tasks(RECIPES["tiny-t2v"]())
    phases = ["image_alignment", "image_mapping", "image_to_video", "image_to_video"]
    assert [task.phase for task in tasks] == phases
    assert [task.world for task in tasks] == [low.world, low.world, low.world, high.world]
    assert tasks[0].image_share == 1.0, "captions are of pictures"
    assert tasks[1].alignment_weight > 0, "or the projector forgets what it learned"
    for task in tasks:
        assert (task.network, task.noise, task.autoencoder) == (high.network, high.noise, high.autoencoder)
        assert min(task.image_dropout, task.both_dropout, task.text_dropout) > 0
        assert task.motion_captions > 0.5, "the image must be looked at"


def test_smoke_is_all_of_tiny_t2v_at_toy_size() -> None:
    smoke, whole = RECIPES["smoke"](), RECIPES["tiny-t2v"]()
    assert [stage.name for stage in smoke.stages] == [stage.name for stage in whole.stages]
    for toy, real in zip(smoke.stages, whole.stages, strict=True):
        assert toy.task.world.height * 2 == real.task.world.height
        assert toy.task.world.num_frames * 2 == real.task.world.num_frames
        assert toy.task.image_scale == real.task.image_scale
        assert toy.optimizer.accumulate == real.optimizer.accumulate
        assert toy.num_steps <= 10
        assert 0 < toy.checkpoint_every < toy.num_steps
        assert min(toy.log_every, toy.validate_every, toy.sample_every) > 0


def test_the_last_stage_of_a_recipe_ends_with_a_falling_rate() -> None:
    for name in ("tiny-vae", "tiny-clip", "tiny-t2v", "tiny-i2v", "tiny-judge"):
        assert RECIPES[name]().stages[-1].optimizer.decay == "cosine", name
