"""Callbacks with diffusers' contract."""

import pytest
import torch
from diffusers.callbacks import MultiPipelineCallbacks, SDCFGCutoffCallback, SDXLCFGCutoffCallback

from videocrafter.pipelines.continuation import Continuation

LATENT = {"seeds": 1, "output_type": "latent", "num_inference_steps": 4}


def every(tensors=("latents",), **changes):
    """Return arguments with a callback that makes these changes after step 0."""

    def callback(pipeline, step, timestep, given):
        return {**given, **changes} if step == 0 else given

    return {"callback_on_step_end": callback, "callback_on_step_end_tensor_inputs": list(tensors)}


def count_branches(pipeline):
    """Return a list that grows by the network's batch size with each call, and the hook's handle."""
    sizes = []
    return sizes, pipeline.unet.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[2])))


def test_a_callback_sees_what_it_asks_for_and_returning_it_changes_nothing(i2v):
    seen = {}
    names = ["latents", "denoised", "prompt_embeds", "negative_prompt_embeds", "image_embeds"]

    def callback(pipeline, step, timestep, tensors):
        seen.update({name: tuple(value.shape) for name, value in tensors.items()})
        return tensors

    settings = {"image": torch.zeros(3, 9, 9), "prompt": ["a cat", "rocket"], **LATENT, "seeds": [1, 2]}
    plain = i2v(**settings).frames
    watched = i2v(**settings, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=names).frames
    assert torch.equal(watched, plain)
    assert list(seen) == names
    # With guidance, embeddings hold the unconditional branch first, as in Stable Diffusion.
    assert [seen[name][0] for name in names] == [2, 2, 4, 2, 4]


@pytest.mark.parametrize("batch", [1, 2])
def test_diffusers_cut_off_turns_guidance_off_from_its_step(t2v, batch):
    prompts, seeds = ["a cat", "rocket"][:batch], [1, 2][:batch]
    sizes, handle = count_branches(t2v)
    callback = SDCFGCutoffCallback(cutoff_step_ratio=0.5)
    settings = {**LATENT, "seeds": seeds}
    cut = t2v(prompts, **settings, callback_on_step_end=callback).frames
    handle.remove()
    assert sizes == [2 * batch] * 3 + [batch]
    assert t2v.guidance_scale == 0
    assert not t2v.do_classifier_free_guidance
    # The steps that are left equal those of a guidance interval.
    torch.testing.assert_close(cut, t2v(prompts, **settings, guidance_interval=(0, 0.75)).frames)
    t2v(prompts, **settings)
    assert t2v.guidance_scale == 4


def test_several_official_callbacks_work_together(t2v):
    stop = SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=1)
    sizes, handle = count_branches(t2v)
    t2v("a cat", **LATENT, callback_on_step_end=MultiPipelineCallbacks([stop, stop]))
    handle.remove()
    assert sizes == [2, 2, 1, 1]


def test_an_interrupt_ends_after_the_step_and_later_calls_run_whole(t2v):
    steps = []

    def stop(pipeline, step, timestep, tensors):
        steps.append(step)
        pipeline._interrupt = step == 1
        return tensors

    short = t2v("a cat", **LATENT, callback_on_step_end=stop).frames
    assert steps == [0, 1]
    assert t2v.interrupt
    assert torch.isfinite(short).all()
    assert t2v.num_timesteps == 4
    steps.clear()
    t2v("a cat", **LATENT, callback_on_step_end=lambda *given: steps.append(given[1]))
    assert steps == [0, 1, 2, 3]
    assert not t2v.interrupt


def test_an_interrupted_continuation_returns_the_windows_so_far(t2v):
    def stop(pipeline, step, timestep, tensors):
        pipeline._interrupt = True

    clip = torch.zeros(2, 16, 16, 3).numpy()
    result = Continuation(t2v, clip, context=2)("a cat", num_frames=6, seeds=1, callback_on_step_end=stop)
    assert result.frames.shape[1] == 4


def test_guidance_can_change_at_every_step(t2v):
    def rising(pipeline, step, timestep, tensors):
        pipeline._guidance_scale = pipeline.guidance_scale + 2

    plain = t2v("a cat", **LATENT).frames
    assert (t2v("a cat", **LATENT, callback_on_step_end=rising).frames - plain).abs().max() > 1e-3
    assert t2v.guidance_scale == 4 + 4 * 2
    with pytest.raises(ValueError, match="guidance cannot be turned on while sampling"):
        t2v("a cat", **LATENT, guidance_scale=1, callback_on_step_end=rising)


@pytest.mark.parametrize("name", ["prompt_embeds", "negative_prompt_embeds"])
def test_embeddings_can_be_replaced_while_sampling(t2v, name):
    settings = {**LATENT, "num_inference_steps": 2}
    other, negative = t2v.encode_prompt("rocket", negative_prompt="night")
    value = other if name == "prompt_embeds" else negative
    changed = t2v("a cat", **settings, **every([name], **{name: value})).frames
    both = torch.cat([negative, other])
    assert (changed - t2v("a cat", **settings).frames).abs().max() > 1e-4
    assert not torch.equal(t2v("a cat", **settings, **every([name], prompt_embeds=both)).frames, changed)

    def in_place(pipeline, step, timestep, tensors):
        if step == 0:
            tensors[name][-1:] = value
        return tensors

    same = t2v("a cat", **settings, callback_on_step_end=in_place, callback_on_step_end_tensor_inputs=[name]).frames
    assert torch.equal(same, changed)


def test_latents_can_be_replaced_while_sampling(t2v):
    result = t2v("a cat", **LATENT, callback_on_step_end=lambda *given: {"latents": given[3]["latents"] * 0})
    assert not result.frames.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (every(["timesteps"]), r"names 'timesteps'; this pipeline has latents, denoised, prompt_embeds, "),
        ({**every(), "callback_on_step_end_tensor_inputs": "latents"}, "must be a list"),
        ({"callback_on_step_end": 3}, "must be callable"),
        ({"callback_on_step_end": SDXLCFGCutoffCallback()}, "names 'add_text_embeds'"),
        ({"callback_on_step_end": lambda *_: torch.zeros(1)}, "must return a dict of tensors or None"),
        (every(latents=torch.zeros(1)), r"returned latents of \[1\]; expected a tensor \[1, 4, 4, 2, 2\]"),
        (every(prompt_embeds=torch.zeros(3, 12, 16)), "returned prompt_embeds of"),
    ],
)
def test_wrong_callbacks_are_refused(t2v, arguments, message):
    with pytest.raises(ValueError, match=message):
        t2v("a cat", **LATENT, **arguments)
