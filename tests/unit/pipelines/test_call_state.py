"""The state of a call belongs to the call, not to the pipeline."""

import threading

import torch

from tests.tiny_models import tiny_pipeline
from videocrafter.pipelines.call_state import CallStateMixin
from videocrafter.pipelines.sampling_settings import SamplingSettings
from videocrafter.pipelines.settings import GenerationDefaults


class Calls(CallStateMixin):
    generation_defaults = GenerationDefaults(guidance_scale=7.0)


def test_before_the_first_call_properties_are_the_models():
    calls = Calls()
    calls._interrupt = True  # nothing to interrupt
    calls._guidance_scale = 3
    assert (calls.guidance_scale, calls.guidance_rescale, calls.num_timesteps) == (7.0, 0.0, 0)
    assert calls.do_classifier_free_guidance
    assert not calls.interrupt
    assert calls.cross_attention_kwargs is None


def test_two_threads_on_one_pipeline_see_their_own_calls():
    calls, barrier, seen = Calls(), threading.Barrier(2, timeout=30), {}

    def run(scale: float) -> None:
        with calls.begin_call(SamplingSettings(guidance_scale=scale)):
            barrier.wait()
            calls._guidance_scale = calls.guidance_scale * 2
            if scale == 2:
                calls._interrupt = True
            barrier.wait()
            seen[scale] = (calls.guidance_scale, calls.interrupt)

    threads = [threading.Thread(target=run, args=(scale,)) for scale in (2.0, 3.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {2.0: (4.0, True), 3.0: (6.0, False)}
    assert calls.guidance_scale in (4.0, 6.0)


def test_a_call_within_a_call_and_on_another_pipeline_leave_the_outer_one_alone():
    calls, others = Calls(), Calls()
    with calls.begin_call(SamplingSettings(guidance_scale=2)):
        with calls.begin_call(SamplingSettings(guidance_scale=3)), others.begin_call(SamplingSettings()):
            calls._interrupt = True
            assert (calls.guidance_scale, others.guidance_scale) == (3, 1)
            assert not others.interrupt
        assert (calls.guidance_scale, calls.interrupt) == (2, False)


def test_a_call_can_be_interrupted_from_another_thread():
    pipeline = tiny_pipeline(image=False)
    steps = []

    def callback(_, step, __, ___):
        steps.append(step)
        stopping = threading.Thread(target=lambda: setattr(pipeline, "_interrupt", True))
        stopping.start()
        stopping.join()

    result = pipeline("a cat", seeds=1, output_type="latent", callback_on_step_end=callback)
    assert steps == [0]
    assert torch.isfinite(result.frames).all()


def test_turning_text_guidance_off_turns_image_guidance_off_too():
    calls = Calls()
    with calls.begin_call(SamplingSettings(guidance_scale=4, image_guidance_scale=2)):
        calls._guidance_scale = 5
        assert calls.current_call.sampling.image_guidance_scale == 2
        calls._guidance_scale = 0
        assert not calls.do_classifier_free_guidance
