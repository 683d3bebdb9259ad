import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_models import DEFAULTS, tiny_pipeline
from videocrafter.pipelines.clip import CHUNK
from videocrafter.pipelines.long_video import LongVideo, reschedule_noise

TRAINED = DEFAULTS["num_frames"]
PICTURE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def seen_by(module, measure):
    """Record `measure(*inputs)` for every call of a module until the handle is removed."""
    seen = []
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(measure(*inputs)))
    return seen, handle


@given(st.integers(1, 8), st.integers(1, 50), st.data())
def test_noise_repeats_the_stretch_of_one_window_before(window, num_frames, data):
    stride = data.draw(st.integers(1, window))
    noise = torch.arange(float(window)).expand(2, 3, window)[..., None, None].contiguous()
    longer = reschedule_noise(noise, num_frames, stride, generators(1, 2))
    assert longer.shape == (2, 3, num_frames, 1, 1)
    assert torch.equal(longer[:, :, :window], noise[:, :, :num_frames])
    for start in range(window, num_frames - stride + 1, stride):
        stretch, before = longer[0, 0, start : start + stride], longer[0, 0, start - window : start - window + stride]
        assert sorted(stretch.flatten().tolist()) == sorted(before.flatten().tolist())


def test_each_video_has_its_own_order():
    noise = torch.arange(8.0).expand(2, 1, 8)[..., None, None].contiguous()
    both = reschedule_noise(noise, 40, 4, generators(1, 2))
    alone = reschedule_noise(noise[1:], 40, 4, generators(2))
    assert torch.equal(both[1], alone[0])
    assert not torch.equal(both[0], both[1])


def test_a_video_that_fits_into_the_window_is_the_pipelines_own(t2v):
    settings = {"seeds": [3, 4], "num_inference_steps": 2}
    for num_frames in (1, 3, TRAINED, None):
        own = t2v(["a cat", "red car"], num_frames=num_frames, output_type="latent", **settings)
        long = LongVideo(t2v)(["a cat", "red car"], num_frames=num_frames, output_type="latent", **settings)
        assert torch.equal(own.frames, long.frames)
    np.testing.assert_array_equal(t2v("a cat", seeds=1).frames, LongVideo(t2v)("a cat", seeds=1).frames)


def test_an_image_to_video_model_takes_an_image(i2v, t2v):
    own = i2v(PICTURE, "a cat", seeds=1, image_scale=0.5, output_type="latent").frames
    assert torch.equal(
        LongVideo(i2v)("a cat", image=PICTURE, image_scale=0.5, seeds=1, output_type="latent").frames, own
    )
    with pytest.raises(ValueError, match="needs an image; pass one"):
        LongVideo(i2v)("a cat")
    with pytest.raises(ValueError, match="takes no image; leave it out"):
        LongVideo(t2v)("a cat", image=PICTURE)


def test_a_long_video_does_not_depend_on_its_batch():
    pipeline = LongVideo(tiny_pipeline(image=False).to(torch.float64))
    settings = {"num_frames": 11, "num_inference_steps": 2, "output_type": "latent"}
    batch = pipeline(["a cat", "a rocket left"], seeds=[1, 2], **settings).frames
    alone = pipeline("a rocket left", seeds=2, **settings).frames
    torch.testing.assert_close(batch[1], alone[0], rtol=0, atol=1e-5)
    assert (pipeline("a rocket left", seeds=5, **settings).frames - alone).abs().max() > 1e-2


def test_memory_does_not_grow_with_the_length(t2v):
    frames_in_unet, one = seen_by(t2v.unet, lambda sample, _, text, *__: len(text) * sample.shape[2])
    frames_in_vae, two = seen_by(t2v.vae.decoder, lambda latents: latents.shape[0])
    result = LongVideo(t2v)("a cat", num_frames=60, num_inference_steps=1, seeds=1)
    one.remove()
    two.remove()
    assert result.frames.shape == (1, 60, 16, 16, 3)
    assert max(frames_in_unet) == 2 * TRAINED  # both branches of guidance
    assert max(frames_in_vae) == CHUNK


def test_more_overlap_costs_more_calls(t2v):
    for overlap, calls in ((0, 3), (2, 5), (3, 9)):
        seen, handle = seen_by(t2v.unet, lambda *_: 1)
        LongVideo(t2v, overlap=overlap)("a cat", num_frames=12, num_inference_steps=1, seeds=1, output_type="latent")
        handle.remove()
        assert len(seen) == calls


def test_the_callback_is_called_after_every_step_and_may_change_the_latents(t2v):
    steps = []

    def callback(pipeline, index, timestep, state):
        steps.append(index)
        assert pipeline is t2v
        assert state["latents"].shape == (1, 4, 7, 2, 2)
        return {"latents": torch.zeros_like(state["latents"])}

    long = LongVideo(t2v)
    result = long("a cat", num_frames=7, seeds=1, output_type="latent", callback_on_step_end=callback)
    assert steps == list(range(long.num_steps(long.check_inputs("a cat", num_frames=7))))
    assert not result.frames.any()


@pytest.mark.parametrize("output_type", ["pt", "pil"])
def test_output_types_show_the_same_video(t2v, output_type):
    settings = {"num_frames": 10, "num_inference_steps": 1, "seeds": 1}
    frames = LongVideo(t2v)("a cat", output_type="uint8", **settings).frames
    np.testing.assert_allclose(LongVideo(t2v)("a cat", **settings).frames * 255, frames, atol=0.51)
    other = LongVideo(t2v)("a cat", output_type=output_type, **settings).frames
    if output_type == "pt":
        assert other.shape == (1, 10, 3, 16, 16)
        assert np.abs((other * 255).numpy().transpose(0, 1, 3, 4, 2) - frames).max() < 0.51
    else:
        np.testing.assert_array_equal(np.stack([np.asarray(picture) for picture in other[0]]), frames[0])


def test_noise_cannot_be_given(t2v):
    with pytest.raises(ValueError, match="latents cannot be given to LongVideo, which arranges its noise itself"):
        LongVideo(t2v)("a cat", latents=torch.zeros(1, 4, 4, 2, 2))


def test_the_pipeline_itself_keeps_its_limit(t2v):
    with pytest.raises(ValueError, match=r"num_frames must be between 1 and 16"):
        t2v("a cat", num_frames=17)
    assert LongVideo(t2v).check_inputs("a cat", num_frames=1000).num_frames == 1000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 1}, r"window must be between 2 and 16 frames, but is 1; the model was trained on 4"),
        ({"window": 17}, r"window must be between 2 and 16 frames, but is 17"),
        ({"overlap": 4}, r"overlap must be between 0 and 3 for windows of 4 frames, but is 4"),
    ],
)
def test_windows_that_the_model_does_not_allow_are_refused(t2v, changes, message):
    with pytest.raises(ValueError, match=message):
        LongVideo(t2v, **changes)


def test_settings_are_checked_as_by_the_pipeline(t2v):
    with pytest.raises(ValueError, match="num_frames must be at least 1, but is 0"):
        LongVideo(t2v)("a cat", num_frames=0)
    with pytest.raises(ValueError, match="height must be a multiple of 8"):
        LongVideo(t2v)("a cat", num_frames=20, height=17)
    with pytest.raises(ValueError, match="output_type must be one of"):
        LongVideo(t2v)("a cat", output_type="mp4")
    with pytest.raises(ValueError, match="image_scale must be at least 0"):
        LongVideo(t2v)("a cat", image_scale=-1)
    with pytest.raises(TypeError, match="frames_per_hour"):
        LongVideo(t2v)("a cat", frames_per_hour=7)


def test_notes_speak_of_the_window_and_of_what_it_means_for_motion(t2v):
    long = LongVideo(t2v)
    notes = long.notes(long.check_inputs("a cat left over the night", num_frames=40))
    assert [note for note in notes if "trained on" in note] == []
    assert [note for note in notes if "plans motion for 4 frames" in note]
    assert long.notes(long.check_inputs("a cat left over the night", num_frames=4)) == []
    wide = LongVideo(t2v, window=8)
    assert any(
        "trained on 4 frames; quality may be lower at 8" in note
        for note in wide.notes(wide.check_inputs("a cat", num_frames=40))
    )
