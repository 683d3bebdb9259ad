"""Plans of generations: which settings save memory, in which order, and what they do to a real pipeline."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.tiny_models import tiny_pipeline
from videocrafter.generation import low_memory
from videocrafter.generation.errors import NotEnoughMemoryError
from videocrafter.generation.low_memory import choose_plan, planned_run, size_of_folder, size_of_model
from videocrafter.generation.memory_plan import GenerationPlan, PlannedRun, worth_showing
from videocrafter.generation.operations import count_operations
from videocrafter.generation.request import GenerateOptions, PromptRow
from videocrafter.pipelines.generation_memory import Workload, with_defaults
from videocrafter.pipelines.memory_settings import MemorySettings
from videocrafter.pipelines.sampling_settings import SamplingSettings

CPU = torch.device("cpu")
ASKED = GenerateOptions(output=Path("v.mp4"), rows=(PromptRow(prompt="a"),), num_frames=4, height=32, width=32)


@pytest.fixture(scope="module")
def large() -> PlannedRun:
    model = size_of_model("t2v-512")
    small_count = replace(ASKED, num_frames=16, height=320, width=512)
    return planned_run(small_count, model, "gpu", torch.bfloat16)


def test_the_default_is_the_first_plan_and_approximate_plans_are_the_last(large: PlannedRun) -> None:
    plans = large.plans()
    assert plans[0].saving == MemorySettings()
    exact = [plan.saving.is_exact for plan in plans]
    assert exact == sorted(exact, reverse=True)
    for kind in (True, False):
        seconds = [plan.seconds for plan in plans if plan.saving.is_exact == kind]
        assert seconds == sorted(seconds)


def test_the_fastest_plan_that_fits_is_exact_if_one_is(large: PlannedRun) -> None:
    needs = [plan.need.total for plan in worth_showing(large.plans())]
    assert needs == sorted(needs, reverse=True)
    previous = 0.0
    for need in needs:
        plan = large.fastest(need)
        assert plan is not None
        assert plan.need.total <= need
        assert plan.seconds >= previous
        previous = plan.seconds
    assert large.fastest(2 * 2**30).saving.is_exact
    assert large.fastest(min(plan.need.total for plan in large.plans()) - 1) is None


def test_each_setting_needs_less_than_without_it(large: PlannedRun) -> None:
    def need(run: PlannedRun = large, **settings: object) -> tuple[int, int, int]:
        found = next(plan for plan in run.plans() if plan.saving == MemorySettings(**settings))
        return found.need.weights, found.need.denoiser, found.need.decoder

    weights, denoiser, _ = need()
    small = replace(large, workload=replace(large.workload, height=256, width=256))
    assert need(small, frames_at_once=1)[2] < 0.6 * need(small)[2], "two of these frames are decoded together"
    assert need(branches_apart=True)[1] < 0.65 * denoiser
    assert need(fp8_weights=True)[0] < 0.7 * weights
    assert need(offload="all")[0] < need(offload="encoders")[0] < weights
    assert need(tiled_decoding=True) == need(), "the frame fits into one tile"


def test_operations_are_those_of_all_steps() -> None:
    pipeline = tiny_pipeline(False)
    unet, vae = with_defaults("unet", pipeline.unet.config), with_defaults("vae", pipeline.vae.config)
    workload = Workload(num_videos=2, branches=2, num_frames=4, height=16, width=16)
    guided = count_operations(unet, vae, workload, SamplingSettings(num_inference_steps=4, guidance_scale=2))
    half = SamplingSettings(num_inference_steps=4, guidance_scale=2, guidance_interval=(0, 0.5))
    partly = count_operations(unet, vae, workload, half)
    assert (partly.guided_steps, partly.unguided_steps) == (2, 2)
    assert partly.passes(branches_apart=True) == 6
    # The text is in this network's embedding: the branches share nothing.
    assert guided.guided == guided.apart == 2 * guided.unguided > 0
    difference = guided.total(branches_apart=False) - partly.total(branches_apart=False)
    assert difference == 2 * guided.unguided


def test_an_official_model_is_planned_without_its_weights() -> None:
    model = size_of_model("i2v-512")
    assert model.parameters.total == pytest.approx(2.542e9, rel=1e-3)
    assert model.defaults.width == 512
    with pytest.raises((ValueError, OSError)):
        size_of_model("t2v-9000")


def test_the_chosen_plan_fits_and_too_little_memory_is_an_error(
    t2v_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned_run(ASKED, size_of_folder(t2v_folder), "cpu", torch.float32)
    plans = run.plans()
    # Counting takes seconds, and memory does not change the operations.
    monkeypatch.setattr(low_memory, "count_operations", lambda *_: run.operations)
    least = min((plan for plan in plans if plan.saving.is_exact), key=lambda plan: plan.need.total)

    def choose(free: int | None, **changes: bool) -> GenerationPlan:
        monkeypatch.setattr(low_memory, "available_memory", lambda device: free)
        return choose_plan(replace(ASKED, **changes), t2v_folder, CPU, torch.float32)

    assert choose(2**40).saving == MemorySettings()
    assert choose(None) == choose(1, ignore_memory=True) == least
    assert choose(int(least.need.total / 0.9) + 1).need.total == least.need.total
    with pytest.raises(NotEnoughMemoryError, match="all exact ways to save it"):
        choose(1)
