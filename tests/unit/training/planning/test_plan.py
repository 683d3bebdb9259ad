from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn
from toy_run import toy_recipe

from tests.tiny_clips import clip_recipe, clip_task
from tests.tiny_parts import AUTOENCODER, TOWERS, video_config, video_task
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.training.config import RecipeConfig, StageConfig
from videocrafter.training.miniature.judge import JudgeTaskConfig
from videocrafter.training.planning.plan import RESERVED, Machine, Planner, RunPlan, StagePlan, days
from videocrafter.training.recipes.by_name import RECIPES
from videocrafter.training.recipes.overrides import apply_overrides
from videocrafter.training.registry import build_task, stage_work
from videocrafter.training.video.lora import LoraTraining
from videocrafter.training.video.phases import Phase
from videocrafter.training.video.planned_start import named_start
from videocrafter.training.video.work import StageWork

GPU = Machine(kind="gpu", memory=24 * 2**30)
CPU = Machine(kind="cpu", memory=8 * 2**30)
OWN_WORLD = (
    *("tiny-vae", "tiny-clip", "tiny-t2v", "tiny-i2v", "tiny-judge", "smoke"),
    "tiny-distill",
)
DISTILLATION = ("distill", "distill-lora")


def one_stage(planner: Planner, start: Path, *settings: str, machine: Machine = GPU, count: int = 1) -> StagePlan:
    recipe = clip_recipe(start, accumulate=4)
    changed = apply_overrides(recipe, [f"stages.clips.{setting}" for setting in settings])
    return planner.plan(changed, replace(machine, count=count)).stages[0]


def sizes_of(parameters: Iterable[nn.Parameter]) -> list[torch.Size]:
    return [parameter.shape for parameter in parameters]


def sizes(networks: Mapping[str, nn.Module]) -> list[torch.Size]:
    return [size for network in networks.values() for size in sizes_of(network.parameters())]


def parts_of(stage: StagePlan, name: str) -> dict[str, int]:
    moment = next(moment for moment in stage.memory.moments if moment.name == name)
    return {key: value for key, value in vars(moment).items() if key != "name"}


def checked_plan(planner: Planner, recipe: RecipeConfig) -> RunPlan:
    plan = planner.plan(recipe, GPU)
    assert [stage.name for stage in plan.stages] == [stage.name for stage in recipe.stages]
    assert all(stage.flops_per_step > 0 and stage.learning > 0 for stage in plan.stages)
    assert all(stage.memory.peak.total > 0 for stage in plan.stages)
    assert plan.flops == sum(stage.flops_per_step * stage.num_steps for stage in plan.stages)
    return plan


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in DISTILLATION])
def test_every_recipe_can_be_planned(name: str, planner: Planner, t2v: Path):
    recipe = RECIPES[name]()
    if name == "t2v-1024":  # the tiny start does not have the paper's schedule
        recipe = apply_overrides(recipe, ["stages.*.task.signal_scale=none"])
    if name not in OWN_WORLD:
        recipe = replace(recipe, init=str(t2v))
    elif name in ("tiny-t2v", "smoke"):
        recipe = replace(recipe, stages=recipe.stages[-1:])
    elif name == "tiny-i2v":  # the last stage is the one before at another size
        recipe = replace(recipe, stages=recipe.stages[:-1])
    checked_plan(planner, recipe)


@pytest.mark.parametrize("name", DISTILLATION)
def test_distillation_counts_teacher_student_averages_and_fake_score(planner: Planner, t2v: Path, name: str):
    recipe = replace(RECIPES[name](), init=str(t2v))
    assert [one.task.lora is not None for one in recipe.stages] == [name == "distill-lora"] * 2
    stages = [replace(one, task=replace(one.task, base_weights="fp32")) for one in recipe.stages]
    consistency, matching = checked_plan(planner, replace(recipe, stages=tuple(stages))).stages
    student = consistency.learning
    assert matching.learning == 2 * student, "with the fake score"
    at_step = parts_of(consistency, "optimizer step")
    assert at_step["average"] == at_step["gradients"] == 4 * student
    network = sum(one.numel() for one in load_pipeline(t2v).unet.parameters())
    # The network, as the teacher's copy or frozen under the LoRA; the student; and the average of the targets.
    assert consistency.resting == network
    assert at_step["trained"] == 4 * (network + 2 * student)
    assert parts_of(matching, "optimizer step")["trained"] == 4 * (network + 2 * student)
    assert matching.flops_per_step > consistency.flops_per_step


def test_the_papers_model_has_its_size_without_its_weights(planner: Planner):
    recipe = RECIPES["overfit-one-clip"]()
    plan = planner.plan(recipe, GPU)
    (stage,) = plan.stages
    assert plan.assumed
    assert plan.start is not None
    assert plan.start.startswith("t2v-256")
    assert stage.learning == pytest.approx(1.413e9, rel=1e-3)
    at_step = parts_of(stage, "optimizer step")
    assert at_step["trained"] == pytest.approx(4 * stage.learning, rel=1e-3)
    assert at_step["gradients"] == at_step["average"] == 4 * stage.learning
    assert at_step["optimizer"] == 8 * stage.learning
    assert not plan.fits(stage)


def described(networks: Mapping[str, nn.Module]) -> dict[str, tuple[tuple[int, ...], torch.dtype, bool]]:
    """Shape and type of every parameter, and whether it is trainable."""
    return {
        f"{name}.{key}": (tuple(parameter.shape), parameter.dtype, parameter.requires_grad)
        for name, network in networks.items()
        for key, parameter in network.named_parameters()
    }


def planned_work(recipe: RecipeConfig) -> StageWork:
    return stage_work(
        recipe.stages[0], None if recipe.init is None else named_start(recipe.init), torch.device("cpu")
    )


@pytest.mark.parametrize(
    ("settings", "takes_image"),
    [
        ({}, False),
        ({}, True),
        ({"phase": "temporal_only"}, False),
        ({"phase": "temporal_only"}, True),
        ({"phase": "image_mapping"}, True),
        ({"phase": "image_mapping", "image_tower": "I2V", "image_queries": 3}, False),
        ({"phase": "image_to_video"}, True),
        ({"lora": LoraTraining(rank=2)}, False),
        ({"lora": LoraTraining(rank=2), "base_weights": "bf16", "frozen_weights": "bf16"}, True),
    ],
)
def test_networks_of_a_plan_are_those_of_the_task_on_clips(
    t2v: Path, i2v: Path, settings: dict[str, Any], takes_image: bool
):
    settings = {name: str(i2v) if value == "I2V" else value for name, value in settings.items()}
    start = i2v if takes_image else t2v
    task, recipe = clip_task(start, **settings), clip_recipe(start, task=settings)
    work = planned_work(recipe)
    assert described(work.trained) == described(task.modules())
    assert described(work.frozen) == described(task._inputs.frozen.bring())
    assert sizes_of(work.task.trainable_parameters()) == sizes_of(task.trainable_parameters())


@pytest.mark.parametrize("settings", [{}, {"lora": LoraTraining(rank=2)}])
def test_a_plan_counts_the_parameters_of_its_networks(planner: Planner, i2v: Path, settings: dict[str, Any]):
    recipe = clip_recipe(i2v, task=settings)
    work = planned_work(recipe)
    (stage,) = planner.plan(recipe, CPU).stages
    assert stage.learning == sum(shape.numel() for shape in sizes_of(work.task.trainable_parameters()))
    assert stage.learning + stage.resting == sum(shape.numel() for shape in sizes(work.trained))
    assert stage.frozen == sum(shape.numel() for shape in sizes(work.frozen))


@pytest.mark.parametrize("from_start", [False, True])
@pytest.mark.parametrize("phase", get_args(Phase))
def test_networks_of_a_plan_are_those_of_the_miniatures_task(
    planner: Planner, parts: Path, t2v_start: Path, phase: Phase, from_start: bool
):
    start = t2v_start if from_start else None
    settings: dict[str, Any] = {"phase": phase, "image_share": 0.0 if phase == "temporal_only" else 0.5}
    task = video_task(parts, start, **settings)
    stage = StageConfig(name="video", task=video_config(parts, **settings), num_steps=1)
    recipe = RecipeConfig(name="video", stages=(stage,), init=None if start is None else str(start))
    work = planned_work(recipe)
    assert described(work.trained) == described(task.modules())
    assert described(work.frozen) == described(task.frozen_networks)
    assert sizes_of(work.task.trainable_parameters()) == sizes_of(task.trainable_parameters())
    if phase == "images" and not from_start:
        (planned,) = planner.plan(recipe, CPU).stages
        assert planned.learning == sum(parameter.numel() for parameter in task.trainable_parameters())


@pytest.mark.parametrize("task", [AUTOENCODER, TOWERS, JudgeTaskConfig(widths=(8, 8, 8, 8))])
def test_networks_of_a_plan_are_those_of_the_small_tasks(task: Any):
    real = build_task(task, None, 0, 0, torch.device("cpu"))
    stage = StageConfig(name="small", task=task, num_steps=1)
    assert described(planned_work(RecipeConfig(name="small", stages=(stage,))).trained) == described(real.modules())


def test_a_stage_starts_from_the_networks_that_the_one_before_leaves(t2v: Path, i2v: Path):
    mapping = clip_recipe(t2v, task={"phase": "image_mapping", "image_tower": str(i2v), "image_queries": 3})
    video = clip_recipe(t2v, name="video", task={"phase": "image_to_video"})
    leaves = planned_work(mapping).leaves
    assert leaves is not None
    work = stage_work(video.stages[0], leaves, torch.device("cpu"))
    assert sizes(work.trained) == sizes(planned_work(mapping).trained)


def test_a_task_without_a_counted_work_cannot_be_planned(planner: Planner):
    with pytest.raises(ValueError, match="it trains by ToyTaskConfig, which cannot be planned"):
        planner.plan(toy_recipe(), CPU)


def test_parts_go_to_main_memory_beside_a_gpu_but_not_on_a_cpu(planner: Planner, t2v: Path):
    plain = parts_of(one_stage(planner, t2v), "optimizer step")
    away = one_stage(planner, t2v, "ema_device=cpu", "optimizer.offload=true")
    assert parts_of(away, "optimizer step")["average"] == parts_of(away, "optimizer step")["optimizer"] == 0
    # moments, averages, and copies of weights and gradients
    assert sum(away.memory.main_memory.values()) == plain["optimizer"] + plain["average"] + 2 * plain["gradients"]
    on_cpu = one_stage(planner, t2v, "ema_device=cpu", "optimizer.offload=true", machine=CPU)
    assert parts_of(on_cpu, "optimizer step")["average"] == plain["average"]
    assert parts_of(on_cpu, "optimizer step")["optimizer"] == plain["optimizer"]
    assert on_cpu.memory.main_memory == {}


def test_moments_and_averages_are_as_large_as_the_settings_say(planner: Planner, t2v: Path):
    plain = parts_of(one_stage(planner, t2v), "optimizer step")
    half = parts_of(one_stage(planner, t2v, "optimizer.state_dtype=bf16", "ema_decay=0"), "optimizer step")
    assert half["optimizer"] * 2 == plain["optimizer"]
    assert half["average"] == 0
    assert half["working"] > plain["working"] == 0


def test_passes_take_less_where_settings_say_so(planner: Planner, t2v: Path):
    def working(*settings: str) -> int:
        return parts_of(one_stage(planner, t2v, *settings), "pass over clips")["working"]

    plain = working()
    # In small passes the copies of the weights outweigh the activations.
    large = "task.data.batch_size=8"
    assert working("precision=bf16", large) < working(large)
    assert working("task.gradient_checkpointing=true") < plain
    assert working("task.data.batch_size=1") < 0.7 * plain
    offloaded = one_stage(planner, t2v, "offload_activations=true")
    assert parts_of(offloaded, "pass over clips")["working"] < plain
    assert offloaded.memory.main_memory["activations"] > 0


def test_checkpointing_computes_the_forward_pass_again(planner: Planner, t2v: Path):
    plain = one_stage(planner, t2v)
    again = one_stage(planner, t2v, "task.gradient_checkpointing=true")
    assert 1.15 * plain.flops < again.flops < 1.34 * plain.flops


def test_gradients_of_earlier_passes_are_there_only_if_there_are_several(planner: Planner, t2v: Path):
    several = one_stage(planner, t2v)
    assert parts_of(several, "encoding clips")["gradients"] > 0
    single = one_stage(planner, t2v, count=4)
    assert parts_of(single, "encoding clips")["gradients"] == 0
    assert several.flops == single.flops
    assert parts_of(single, "optimizer step")["working"] > 0  # the bucket of gradients that the processes average


def test_sharded_weights_are_divided(planner: Planner, t2v: Path):
    whole = parts_of(one_stage(planner, t2v, count=4), "optimizer step")
    stage = one_stage(planner, t2v, "parallel.sharding=full", count=4)
    assert stage.sharded
    for part in ("trained", "gradients", "optimizer", "average"):
        # small parameters cannot be divided evenly by four
        assert whole[part] / 4 <= parts_of(stage, "optimizer step")[part] < 0.4 * whole[part]
    alone = one_stage(planner, t2v, "parallel.sharding=full")
    assert not alone.sharded
    away = one_stage(planner, t2v, "parallel.sharding=full", "parallel.cpu_offload=true", count=4)
    assert parts_of(away, "optimizer step")["trained"] == 0
    assert sum(away.memory.main_memory.values()) > 0


def test_a_full_cache_needs_no_frozen_networks_and_no_encoding(planner: Planner, t2v: Path):
    plain = one_stage(planner, t2v)
    cached = one_stage(planner, t2v, "task.cache.folder=cache", "task.cache.fill=never")
    assert parts_of(plain, "pass over clips")["frozen"] > parts_of(cached, "pass over clips")["frozen"] == 0
    assert cached.flops < plain.flops
    assert not any(moment.name.startswith("encoding") for moment in cached.memory.moments)
    looking = one_stage(planner, t2v, "task.cache.folder=cache", "task.cache.fill=never", "sample_every=1")
    assert parts_of(looking, "making samples")["frozen"] > 0


def test_samples_take_memory_only_where_they_are_made(planner: Planner, t2v: Path):
    assert "making samples" not in {moment.name for moment in one_stage(planner, t2v).memory.moments}
    looking = one_stage(planner, t2v, "sample_every=1")
    assert parts_of(looking, "making samples")["working"] > 0
    assert parts_of(looking, "making samples")["gradients"] == 0


@pytest.mark.parametrize(
    ("settings", "count", "expected"),
    [
        ((), 3, "optimizer.accumulate is 4, expected a multiple of 3"),
        (
            ("parallel.sharding=full", "optimizer.name=adamw8bit"),
            2,
            "optimizer.name adamw8bit and parallel.sharding cannot be combined",
        ),
        (
            ("parallel.sharding=full", "optimizer.offload=true"),
            2,
            "optimizer.offload and parallel.sharding cannot be combined",
        ),
        (("task.data.cutting.height=20",), 1, "multiples of 8"),
        (("task.signal_scale=0.3",), 1, "the start's schedule is not the paper's"),
        (("task.phase=image_to_video",), 1, "train phase 'image_mapping' first"),
    ],
)
def test_what_training_would_refuse_is_refused(
    planner: Planner, t2v: Path, settings: tuple[str, ...], count: int, expected: str
):
    with pytest.raises(ValueError, match=expected):
        one_stage(planner, t2v, *settings, count=count)


def test_a_start_that_is_nowhere_is_refused(planner: Planner, tmp_path: Path):
    with pytest.raises(ValueError, match="neither a pipeline folder nor a model's name"):
        planner.plan(clip_recipe(tmp_path), GPU)


def test_a_start_whose_networks_contradict_each_other_is_named(t2v: Path, tmp_path: Path):
    start = shutil.copytree(t2v, tmp_path / "start")
    config = start / "text_encoder/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "hidden_size": 48}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"the networks of .*start do not fit together .* use an intact copy"):
        one_stage(Planner(), start)


def test_days_are_shared_by_devices():
    flops = 86_400e12
    assert days(flops, GPU, 1e12) == 1
    assert days(flops, replace(GPU, count=4), 0.5e12) == 0.5


def test_a_device_is_not_used_to_its_end():
    assert GPU.usable == GPU.memory - RESERVED["gpu"]
