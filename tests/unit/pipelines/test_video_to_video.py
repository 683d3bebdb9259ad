import numpy as np
import pytest
import torch

from tests.tiny_models import tiny_pipeline
from videocrafter.diffusion.schedulers import SCHEDULERS, build_scheduler
from videocrafter.pipelines.clip import encode_clip, fit_clip
from videocrafter.pipelines.video_to_video import VideoToVideo

CLIP = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
LATENT = {"output_type": "latent", "seeds": 1}
UNSCALED = [name for name in SCHEDULERS if name != "ddim-official"]
# Of the first order, of the second, of several steps, of several steps with a corrector, and with noise of their own.
ONE_OF_EACH_KIND = ["ddim", "heun", "dpm++2m", "unipc", "euler-a"]


def with_scheduler(name):
    pipeline = tiny_pipeline(image=False)
    pipeline.scheduler = build_scheduler(name, pipeline.scheduler.config)
    return pipeline


@pytest.mark.parametrize("name", UNSCALED)
def test_full_strength_is_a_plain_generation(name):
    pipeline = with_scheduler(name)
    settings = {"num_inference_steps": 3, **LATENT}
    plain = pipeline("a cat", **settings).frames
    assert torch.equal(VideoToVideo(pipeline, CLIP, 1.0)("a cat", **settings).frames, plain)


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_less_strength_stays_nearer_to_the_clip(name):
    pipeline = with_scheduler(name)
    clean = encode_clip(pipeline, CLIP)
    distances = [
        (VideoToVideo(pipeline, CLIP, strength)("a cat", num_inference_steps=10, **LATENT).frames[0] - clean).std()
        for strength in (0.1, 0.4, 1.0)
    ]
    assert distances[0] < 0.5 * distances[2]
    assert distances[0] < distances[1] < distances[2]


def test_the_least_strength_returns_the_clip(t2v):
    clean = encode_clip(t2v, CLIP)
    result = VideoToVideo(t2v, CLIP, 1e-9)("a cat", num_inference_steps=1000, **LATENT).frames[0]
    torch.testing.assert_close(result, clean, rtol=0, atol=0.06)


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 10), (0.6, 6), (0.34, 3), (0.01, 1)])
@pytest.mark.parametrize("name", ["ddim", "heun", "dpm++2m"])
def test_strength_is_the_share_of_the_steps_that_are_run(name, strength, steps):
    video_to_video = VideoToVideo(with_scheduler(name), CLIP, strength)
    calls = []
    settings = {"num_inference_steps": 10, **LATENT}
    video_to_video("a cat", callback_on_step_end=lambda *_: calls.append(1), **settings)
    # Heun calls twice in every step but the last, and the first if that starts from pure noise.
    assert len(calls) == (2 * steps - 1 - (strength == 1) if name == "heun" else steps)
    assert video_to_video.num_steps(video_to_video.check_inputs("a cat", num_inference_steps=10)) == len(calls)


def test_the_same_seed_gives_the_same_video_in_every_batch():
    pipeline = VideoToVideo(tiny_pipeline(image=False).to(torch.float64), CLIP, 0.7)
    batch = pipeline(["a cat", "red car"], seeds=[1, 2], output_type="latent", eta=1.0).frames
    alone = pipeline("red car", seeds=2, output_type="latent", eta=1.0).frames
    torch.testing.assert_close(batch[1], alone[0], rtol=0, atol=1e-5)
    assert (pipeline("red car", seeds=3, output_type="latent", eta=1.0).frames - alone).abs().max() > 1e-2


def test_long_clips_are_worked_on_in_windows(t2v):
    shapes = []
    handle = t2v.unet.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape[2]))
    result = VideoToVideo(t2v, np.tile(CLIP, (3, 1, 1, 1)), 0.5)("a cat", seeds=1)
    handle.remove()
    assert result.frames.shape == (1, 12, 16, 16, 3)
    assert set(shapes) == {4}
    video_to_video = VideoToVideo(t2v, np.tile(CLIP, (3, 1, 1, 1)))
    assert video_to_video.notes(video_to_video.check_inputs("a cat over the night")) == []


def test_a_clip_of_another_size_is_fitted_and_the_user_told(t2v):
    wide = np.random.default_rng(1).integers(0, 256, (3, 20, 60, 3), np.uint8)
    video_to_video = VideoToVideo(t2v, wide, 0.4)
    request = video_to_video.check_inputs("a cat over the night", seeds=1)
    assert "the clip is 60x20; it is scaled and cropped to 16x16" in video_to_video.notes(request)
    fitted = VideoToVideo(t2v, fit_clip(wide, 16, 16), 0.4)
    assert not any("cropped" in note for note in fitted.notes(request))
    np.testing.assert_array_equal(video_to_video("a cat", seeds=1).frames, fitted("a cat", seeds=1).frames)


def test_the_start_of_a_clip_can_be_taken(t2v):
    short = VideoToVideo(t2v, CLIP[:2])("a cat", seeds=1).frames
    np.testing.assert_array_equal(VideoToVideo(t2v, CLIP)("a cat", num_frames=2, seeds=1).frames, short)
    with pytest.raises(ValueError, match="num_frames must be between 1 and 4, the clip's length, but is 5"):
        VideoToVideo(t2v, CLIP)("a cat", num_frames=5)


def test_an_image_to_video_model_sees_the_first_frame(i2v):
    video_to_video = VideoToVideo(i2v, CLIP)
    default = video_to_video("a cat", **LATENT).frames
    assert torch.equal(video_to_video("a cat", image=CLIP[0], **LATENT).frames, default)
    assert not torch.equal(video_to_video("a cat", image=CLIP[3], **LATENT).frames, default)


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.01, float("nan")])
def test_impossible_strengths_are_refused(t2v, strength):
    with pytest.raises(ValueError, match="strength must be above 0 and at most 1, but is"):
        VideoToVideo(t2v, CLIP, strength)
