"""Deep features are reused only in the steps, calls and runs that they belong to."""

import threading
from typing import Any

import pytest
import torch
from diffusers import HeunDiscreteScheduler, LCMScheduler

from tests.tiny_models import tiny_pipeline
from tests.unit.models.test_unet import EVERYTHING, build, inputs
from videocrafter.diffusion.few_steps import FewStepScheduler
from videocrafter.pipelines.feature_cache import CachedUNet, FeatureCache
from videocrafter.pipelines.long_video import LongVideo
from videocrafter.pipelines.memory_settings import MemorySettings

SETTINGS: dict[str, Any] = {"num_inference_steps": 12, "output_type": "latent"}
NEVER_FULL = FeatureCache(every=100, full_first=0, full_last=0)


def latents(pipeline: Any, **changes: Any) -> torch.Tensor:
    return pipeline("a red car", **{"seeds": 1, **SETTINGS, **changes}).frames


def count_middle(pipeline: Any) -> list[int]:
    """A list that grows with every run of the innermost layer by the number of its rows."""
    rows: list[int] = []
    pipeline.unet.middle_out.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    return rows


def test_the_first_and_last_steps_are_full_and_some_in_between() -> None:
    assert FeatureCache(every=2).full_steps(10) == {0, 1, 3, 5, 7, 8, 9}
    assert FeatureCache(every=3, full_first=0, full_last=0).full_steps(8) == {0, 3, 6}
    assert FeatureCache(every=1).full_steps(10) == set(range(10))


def test_a_cache_that_reuses_nothing_changes_nothing() -> None:
    pipeline = tiny_pipeline(False, stages=2)
    expected = latents(pipeline)
    pipeline.use_feature_cache(FeatureCache(every=1))
    assert torch.equal(latents(pipeline), expected)


@pytest.mark.parametrize("layers", [1, 2])
def test_cached_steps_leave_the_inner_layers_out(layers: int) -> None:
    pipeline, cache = tiny_pipeline(False, stages=2), FeatureCache(layers=layers, every=2)
    expected, rows = latents(pipeline), count_middle(pipeline)
    pipeline.use_feature_cache(cache)
    got = latents(pipeline)
    assert len(rows) == len(cache.full_steps(12)) < 12
    assert 0 < (got - expected).std() < 0.5 * expected.std()
    pipeline.use_feature_cache(None)
    assert torch.equal(latents(pipeline), expected)


def test_runs_do_not_share_features() -> None:
    pipeline = tiny_pipeline(False, stages=2)
    pipeline.use_feature_cache(FeatureCache(every=3))
    first = latents(pipeline)
    latents(pipeline, seeds=2)
    assert torch.equal(latents(pipeline), first)


def test_calls_of_a_step_have_features_of_their_own() -> None:
    """Guided and unguided steps, and the call without temporal layers."""
    pipeline = tiny_pipeline(False, stages=2)
    rows = count_middle(pipeline)
    pipeline.use_feature_cache(NEVER_FULL)
    latents(pipeline, guidance_interval=(0.0, 0.5), temporal_guidance_scale=1.0)
    # In step 0 the guided call and the one without temporal layers, in step 6 the first unguided call.
    assert rows == [8, 4, 4]


def test_branches_apart_have_features_of_their_own() -> None:
    pipeline = tiny_pipeline(False, stages=2).to(torch.float64)
    pipeline.use_feature_cache(NEVER_FULL)
    expected = latents(pipeline)
    pipeline.save_memory(MemorySettings(branches_apart=True))
    torch.testing.assert_close(latents(pipeline), expected, atol=1e-4, rtol=0)


def test_features_of_other_branches_are_not_taken_where_guidance_begins_or_ends() -> None:
    """With branches apart, the first call of a guided step is unconditional, that of an unguided one conditional."""
    pipeline = tiny_pipeline(False, stages=2)
    pipeline.save_memory(MemorySettings(branches_apart=True))
    rows = count_middle(pipeline)
    pipeline.use_feature_cache(NEVER_FULL)
    latents(pipeline, guidance_interval=(0.25, 0.75))
    # Whole networks: the conditional branch in step 0, both branches in step 3, the conditional branch in step 9.
    assert rows == [4, 4, 4, 4]


def test_new_conditions_forget_the_features() -> None:
    pipeline = tiny_pipeline(False, stages=2)
    rows = count_middle(pipeline)
    pipeline.use_feature_cache(NEVER_FULL)

    def change(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"prompt_embeds": 2 * tensors["prompt_embeds"]} if step == 4 else {}

    latents(pipeline, callback_on_step_end=change, callback_on_step_end_tensor_inputs=["prompt_embeds"])
    assert rows == [8, 8]


def test_branches_that_share_layers_are_cached_too() -> None:
    model = build(attention_levels=(0, 1)).double()
    cached = CachedUNet(model, NEVER_FULL, 2)
    sample, timestep, _, fps, _ = inputs(1)
    text = inputs(2)[2].double()
    with torch.no_grad():
        expected = model(sample.double(), timestep, text, fps)
        cached.begin_step(0)
        assert torch.equal(cached(sample.double(), timestep, text, fps), expected)
        cached.begin_step(1)
        # With the same input, the features are right, and so is the result.
        torch.testing.assert_close(cached(sample.double(), timestep, text, fps), expected, atol=1e-10, rtol=0)
        assert not torch.equal(cached._outer_layers(*_changed(cached, sample, timestep, text, fps)), expected)


def _changed(cached: CachedUNet, sample: torch.Tensor, timestep: Any, text: Any, fps: Any) -> tuple[Any, ...]:
    (features,) = cached._features.values()
    return (features, sample.double() + 1, timestep, text, fps, None, 1.0, True)


def test_every_kind_of_network_is_cached() -> None:
    model = build(**EVERYTHING)
    cached, given = CachedUNet(model, NEVER_FULL, 2), inputs(2, image=True)
    with torch.no_grad():
        expected = cached(*given)
        cached.begin_step(1)
        torch.testing.assert_close(cached(*given), expected, atol=1e-5, rtol=1e-4)


def test_features_of_another_threads_call_are_not_kept() -> None:
    model, given, others = build(**EVERYTHING), inputs(2, image=True), inputs(2, image=True)
    others = (others[0] + 1, *others[1:])
    cached, first = CachedUNet(model, NEVER_FULL, 2), threading.get_ident()
    ran: list[bool] = []

    def call() -> None:
        with torch.no_grad():
            model(*others)
        ran.append(True)

    def interrupt(*_: Any) -> None:
        """Run a call of another thread at the end of the first one's."""
        if threading.get_ident() == first and not ran:
            other = threading.Thread(target=call)
            other.start()
            other.join()

    model.conv_out.register_forward_pre_hook(interrupt)
    with torch.no_grad():
        expected = cached(*given)
        assert ran
        cached.begin_step(1)
        torch.testing.assert_close(cached(*given), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("scheduler", "steps", "message"),
    [
        (None, 8, "at least 9 num_inference_steps, but there are 8"),
        (HeunDiscreteScheduler, 12, "HeunDiscreteScheduler, which visits steps twice"),
        (LCMScheduler, 12, "LCMScheduler, whose few steps are too far apart"),
        (FewStepScheduler, 12, "FewStepScheduler, whose few steps are too far apart"),
    ],
)
def test_harmful_uses_are_refused(scheduler: Any, steps: int, message: str) -> None:
    pipeline = tiny_pipeline(False, stages=2)
    if scheduler is not None:
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    pipeline.use_feature_cache(FeatureCache())
    with pytest.raises(ValueError, match=message):
        latents(pipeline, num_inference_steps=steps)


def test_windows_offloading_and_too_many_layers_are_refused() -> None:
    pipeline = tiny_pipeline(False, stages=2)
    pipeline.use_feature_cache(FeatureCache())
    with pytest.raises(ValueError, match="windows, input clips and several devices"):
        LongVideo(pipeline)("a red car", num_frames=9, seeds=1, **SETTINGS)
    with pytest.raises(ValueError, match="has 9 layers, but the network's last stage has 2"):
        pipeline.use_feature_cache(FeatureCache(layers=9))
    pipeline.save_memory(MemorySettings(offload="all"))
    with pytest.raises(ValueError, match="while weights are offloaded"):
        pipeline.use_feature_cache(FeatureCache())


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"every": 0}, {"full_first": 2}, {"full_last": -1}])
def test_wrong_settings_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FeatureCache(**wrong)
