import numpy as np
import pytest
import torch

from tests.tiny_models import tiny_pipeline
from videocrafter.pipelines.clip import encode_clip
from videocrafter.pipelines.continuation import Continuation

CLIP = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)


@pytest.mark.parametrize("num_frames", [None, 1, 5])
def test_the_clip_stays_as_it_is_and_new_frames_follow(t2v, num_frames):
    result = Continuation(t2v, CLIP)(["a cat", "red car"], num_frames=num_frames, seeds=1, output_type="uint8")
    assert result.frames.shape == (2, 5 + (num_frames or 2), 16, 16, 3)
    for video in result.frames:
        np.testing.assert_array_equal(video[:5], CLIP)
    assert (result.frames[0, 5:] != result.frames[1, 5:]).any()


@pytest.mark.parametrize("output_type", ["np", "pt", "pil", "latent"])
def test_other_output_types_hold_the_same_video(t2v, output_type):
    expected = Continuation(t2v, CLIP)("a cat", num_frames=3, seeds=1, output_type="uint8").frames
    other = Continuation(t2v, CLIP)("a cat", num_frames=3, seeds=1, output_type=output_type).frames
    if output_type == "pt":
        assert np.abs((other * 255).numpy().transpose(0, 1, 3, 4, 2) - expected).max() < 0.51
    elif output_type == "np":
        assert np.abs(other * 255 - expected).max() < 0.51
        np.testing.assert_array_equal((other[0, :5] * 255).astype(np.uint8), CLIP)  # as diffusers writes them
    elif output_type == "pil":
        np.testing.assert_array_equal(np.stack([np.asarray(picture) for picture in other[0]]), expected[0])
    else:
        assert other.shape == (1, 4, 8, 2, 2)
        assert torch.equal(other[0, :, :5], encode_clip(t2v, CLIP))


def test_windows_follow_each_other_from_their_own_end(t2v):
    # Two windows in one call equal one window, then another that continues from its latents.
    settings = {"seeds": 1, "output_type": "latent"}
    both = Continuation(t2v, CLIP, context=3)("a cat", num_frames=2, **settings).frames
    one = Continuation(t2v, CLIP, context=3)("a cat", num_frames=1, **settings).frames
    assert both.shape[2] == 7
    assert torch.equal(both[:, :, :6], one)
    assert (both[:, :, 6] - both[:, :, 5]).abs().max() > 1e-2


def test_only_the_context_counts(t2v):
    other = CLIP.copy()
    other[:3] = 0
    settings = {"num_frames": 2, "seeds": 1}
    new = Continuation(t2v, CLIP, context=2)("a cat", **settings).frames[:, 5:]
    np.testing.assert_array_equal(Continuation(t2v, other, context=2)("a cat", **settings).frames[:, 5:], new)
    other[3] = 0
    assert (Continuation(t2v, other, context=2)("a cat", **settings).frames[:, 5:] != new).any()


def test_the_network_sees_one_window_at_a_time_and_every_step_is_told(t2v):
    shapes, calls = [], []
    handle = t2v.unet.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape[2]))
    continuation = Continuation(t2v, CLIP, context=1)
    continuation("a cat", num_frames=7, seeds=1, callback_on_step_end=lambda *_: calls.append(1))
    handle.remove()
    assert set(shapes) == {4}
    assert len(calls) == continuation.num_steps(continuation.check_inputs("a cat", num_frames=7)) == 3 * 3


def test_a_video_does_not_depend_on_its_batch():
    pipeline = Continuation(tiny_pipeline(image=False).to(torch.float64), CLIP)
    settings = {"num_frames": 5, "output_type": "latent"}
    batch = pipeline(["a cat", "red car"], seeds=[1, 2], **settings).frames
    alone = pipeline("red car", seeds=2, **settings).frames
    torch.testing.assert_close(batch[1], alone[0], rtol=0, atol=1e-5)
    assert (pipeline("red car", seeds=3, **settings).frames - alone).abs().max() > 1e-2


def test_an_image_to_video_model_sees_the_last_frame(i2v):
    continuation = Continuation(i2v, CLIP)
    default = continuation("a cat", seeds=1).frames
    np.testing.assert_array_equal(continuation("a cat", image=CLIP[-1], seeds=1).frames, default)
    assert (continuation("a cat", image=CLIP[0], seeds=1).frames != default).any()


@pytest.mark.parametrize("answer", [None, {}, {"something": "else"}])
def test_a_callback_that_changes_nothing_changes_nothing(t2v, answer):
    settings = {"seeds": 1, "output_type": "latent"}
    plain = Continuation(t2v, CLIP)("a cat", **settings).frames
    watched = Continuation(t2v, CLIP)("a cat", callback_on_step_end=lambda *_: answer, **settings).frames
    assert torch.equal(watched, plain)


def test_a_single_frame_can_be_continued(t2v):
    result = Continuation(t2v, CLIP[:1])("a cat", num_frames=6, seeds=1)
    assert result.frames.shape[1] == 7


@pytest.mark.parametrize(
    ("num_frames", "context", "message"),
    [
        (5, 0, r"context must be between 1 and 3 for a clip of 5 frames and windows of 4, but is 0"),
        (5, 4, r"context must be between 1 and 3"),
        (2, 3, r"context must be between 1 and 2 for a clip of 2 frames"),
    ],
)
def test_an_impossible_context_is_refused(t2v, num_frames, context, message):
    with pytest.raises(ValueError, match=message):
        Continuation(t2v, CLIP[:num_frames], context=context)


def test_there_must_be_something_new(t2v):
    with pytest.raises(ValueError, match="num_frames must be at least 1, but is 0"):
        Continuation(t2v, CLIP)("a cat", num_frames=0)


def test_notes_speak_of_the_window(t2v):
    continuation = Continuation(t2v, CLIP)
    assert continuation.notes(continuation.check_inputs("a cat over the night", num_frames=100)) == []
