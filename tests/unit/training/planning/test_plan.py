from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.tiny_clips import clip_recipe, clip_task
from videocrafter.training.planning.plan import RESERVED, Machine, Planner, StagePlan, days
from videocrafter.training.recipes.by_name import RECIPES
from videocrafter.training.recipes.overrides import apply_overrides
from videocrafter.training.video.lora import LoraTraining

GPU = Machine(kind="gpu", memory=24 * 2**30)
CPU = Machine(kind="cpu", memory=8 * 2**30)
OWN_WORLD = ("tiny-vae", "tiny-clip", "tiny-t2v", "tiny-i2v", "tiny-judge", "smoke")


def one_stage(planner: Planner, start: Path, *settings: str, machine: Machine = GPU, count: int = 1) -> StagePlan:
    recipe = clip_recipe(start, accumulate=4)
    changed = apply_overrides(recipe, [f"stages.clips.{setting}" for setting in settings])
    return planner.plan(changed, replace(machine, count=count)).stages[0]


def parts(stage: StagePlan, name: str) -> dict[str, int]:
    moment = next(moment for moment in stage.memory.moments if moment.name == name)
    return {key: value for key, value in vars(moment).items() if key != "name"}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_planned(name: str, planner: Planner, t2v: Path):
    recipe = RECIPES[name]()
    if name not in OWN_WORLD:
        recipe = replace(recipe, init=str(t2v))
    elif name in ("tiny-t2v", "smoke"):
        recipe = replace(recipe, stages=recipe.stages[-1:])
    plan = planner.plan(recipe, GPU)
    assert [stage.name for stage in plan.stages] == [stage.name for stage in recipe.stages]
    assert all(stage.flops_per_step > 0 and stage.learning > 0 for stage in plan.stages)
    assert all(stage.memory.peak.total > 0 for stage in plan.stages)
    assert plan.flops == sum(stage.flops_per_step * stage.num_steps for stage in plan.stages)


def test_the_papers_model_has_its_size_without_its_weights(planner: Planner):
    recipe = RECIPES["overfit-one-clip"]()
    plan = planner.plan(recipe, GPU)
    (stage,) = plan.stages
    assert plan.assumed
    assert plan.start is not None
    assert plan.start.startswith("t2v-256")
    assert stage.learning == pytest.approx(1.413e9, rel=1e-3)
    at_step = parts(stage, "optimizer step")
    assert at_step["trained"] == pytest.approx(4 * stage.learning, rel=1e-3)
    assert at_step["gradients"] == at_step["average"] == 4 * stage.learning
    assert at_step["optimizer"] == 8 * stage.learning
    assert not plan.fits(stage)


@pytest.mark.parametrize(
    "settings", [{}, {"phase": "temporal_only"}, {"lora": LoraTraining(rank=2)}, {"phase": "image_to_video"}]
)
def test_what_learns_is_what_learns_in_training(planner: Planner, t2v: Path, i2v: Path, settings: dict[str, object]):
    start = i2v if settings.get("phase") == "image_to_video" else t2v
    task = clip_task(start, **settings)
    (stage,) = planner.plan(clip_recipe(start, task=settings), CPU).stages
    assert stage.learning == sum(parameter.numel() for parameter in task.parameter_groups())
    everything = sum(p.numel() for module in task.modules().values() for p in module.parameters())
    assert stage.learning + stage.resting == everything


def test_parts_go_to_main_memory_beside_a_gpu_but_not_on_a_cpu(planner: Planner, t2v: Path):
    plain = parts(one_stage(planner, t2v), "optimizer step")
    away = one_stage(planner, t2v, "ema_device=cpu", "optimizer.offload=true")
    assert parts(away, "optimizer step")["average"] == parts(away, "optimizer step")["optimizer"] == 0
    # moments, averages, and copies of weights and gradients
    assert sum(away.memory.main_memory.values()) == plain["optimizer"] + plain["average"] + 2 * plain["gradients"]
    on_cpu = one_stage(planner, t2v, "ema_device=cpu", "optimizer.offload=true", machine=CPU)
    assert parts(on_cpu, "optimizer step")["average"] == plain["average"]
    assert parts(on_cpu, "optimizer step")["optimizer"] == plain["optimizer"]
    assert on_cpu.memory.main_memory == {}


def test_moments_and_averages_are_as_large_as_the_settings_say(planner: Planner, t2v: Path):
    plain = parts(one_stage(planner, t2v), "optimizer step")
    half = parts(one_stage(planner, t2v, "optimizer.state_dtype=bf16", "ema_decay=0"), "optimizer step")
    assert half["optimizer"] * 2 == plain["optimizer"]
    assert half["average"] == 0
    assert half["working"] > plain["working"] == 0


def test_passes_take_less_where_settings_say_so(planner: Planner, t2v: Path):
    def working(*settings: str) -> int:
        return parts(one_stage(planner, t2v, *settings), "pass over clips")["working"]

    plain = working()
    # In small passes it is not the activations that count, but copies of the weights.
    large = "task.data.batch_size=8"
    assert working("precision=bf16", large) < working(large)
    assert working("task.gradient_checkpointing=true") < plain
    assert working("task.data.batch_size=1") < 0.7 * plain
    offloaded = one_stage(planner, t2v, "offload_activations=true")
    assert parts(offloaded, "pass over clips")["working"] < plain
    assert offloaded.memory.main_memory["activations"] > 0


def test_checkpointing_computes_the_forward_pass_again(planner: Planner, t2v: Path):
    plain = one_stage(planner, t2v)
    again = one_stage(planner, t2v, "task.gradient_checkpointing=true")
    assert 1.15 * plain.flops < again.flops < 1.34 * plain.flops


def test_gradients_of_earlier_passes_are_there_only_if_there_are_several(planner: Planner, t2v: Path):
    several = one_stage(planner, t2v)
    assert parts(several, "encoding clips")["gradients"] > 0
    single = one_stage(planner, t2v, count=4)
    assert parts(single, "encoding clips")["gradients"] == 0
    assert several.flops == single.flops
    assert parts(single, "optimizer step")["working"] > 0  # gradients on their way to the other processes


def test_sharded_weights_are_divided(planner: Planner, t2v: Path):
    whole = parts(one_stage(planner, t2v, count=4), "optimizer step")
    stage = one_stage(planner, t2v, "parallel.sharding=full", count=4)
    assert stage.sharded
    for part in ("trained", "gradients", "optimizer", "average"):
        # small parameters do not go evenly into four
        assert whole[part] / 4 <= parts(stage, "optimizer step")[part] < 0.4 * whole[part]
    alone = one_stage(planner, t2v, "parallel.sharding=full")
    assert not alone.sharded
    away = one_stage(planner, t2v, "parallel.sharding=full", "parallel.cpu_offload=true", count=4)
    assert parts(away, "optimizer step")["trained"] == 0
    assert sum(away.memory.main_memory.values()) > 0


def test_a_full_cache_needs_no_frozen_networks_and_no_encoding(planner: Planner, t2v: Path):
    plain = one_stage(planner, t2v)
    cached = one_stage(planner, t2v, "task.cache.folder=cache", "task.cache.fill=never")
    assert parts(plain, "pass over clips")["frozen"] > parts(cached, "pass over clips")["frozen"] == 0
    assert cached.flops < plain.flops
    assert not any(moment.name.startswith("encoding") for moment in cached.memory.moments)
    looking = one_stage(planner, t2v, "task.cache.folder=cache", "task.cache.fill=never", "sample_every=1")
    assert parts(looking, "making samples")["frozen"] > 0


def test_samples_take_memory_only_where_they_are_made(planner: Planner, t2v: Path):
    assert "making samples" not in {moment.name for moment in one_stage(planner, t2v).memory.moments}
    looking = one_stage(planner, t2v, "sample_every=1")
    assert parts(looking, "making samples")["working"] > 0
    assert parts(looking, "making samples")["gradients"] == 0


@pytest.mark.parametrize(
    ("settings", "count", "expected"),
    [
        ((), 3, "optimizer.accumulate is 4, expected a multiple of 3"),
        (("parallel.sharding=full", "optimizer.name=adamw8bit"), 2, "optimizer.name adamw8bit and parallel.sharding"),
        (("parallel.sharding=full", "optimizer.offload=true"), 2, "optimizer.offload and parallel.sharding"),
        (("task.data.cutting.height=20",), 1, "multiples of 8"),
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


def test_days_are_shared_by_devices():
    flops = 86_400e12
    assert days(flops, GPU, 1e12) == 1
    assert days(flops, replace(GPU, count=4), 0.5e12) == 0.5


def test_a_device_is_not_used_to_its_end():
    assert GPU.usable == GPU.memory - RESERVED["gpu"]
