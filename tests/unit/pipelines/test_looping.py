import math

import pytest
import torch

from videocrafter.pipelines import looping
from videocrafter.pipelines.looping import LoopedVideo, turn_per_step
from videocrafter.pipelines.windows import WindowedUNet


@pytest.mark.parametrize("num_frames", range(1, 60))
def test_turns_reach_every_place_of_the_ring(num_frames):
    turn = turn_per_step(num_frames)
    assert math.gcd(turn, num_frames) == 1
    assert {step * turn % num_frames for step in range(num_frames)} == set(range(num_frames))


@pytest.fixture
def offsets(monkeypatch):
    """First frame of the windows in every call."""
    seen = []

    class Watched(WindowedUNet):
        def __call__(self, *arguments, **options):
            seen.append(self.offset)
            return super().__call__(*arguments, **options)

    monkeypatch.setattr(looping, "WindowedUNet", Watched)
    return seen


def test_windows_move_on_after_every_step(t2v, offsets):
    LoopedVideo(t2v)("a cat", num_frames=10, num_inference_steps=4, seeds=1, output_type="latent")
    assert offsets == [step * turn_per_step(10) % 10 for step in range(4)]


@pytest.mark.parametrize("num_frames", [4, 10])
def test_where_the_ring_is_cut_does_not_matter(t2v, monkeypatch, num_frames):
    # Rotating the noise and the windows rotates the loop.
    pipeline = LoopedVideo(t2v)
    settings = {"num_frames": num_frames, "num_inference_steps": 3, "seeds": 1, "output_type": "latent"}
    straight = pipeline("a cat", **settings).frames
    original = pipeline.windowed_noise
    monkeypatch.setattr(pipeline, "windowed_noise", lambda *arguments: original(*arguments).roll(3, dims=2))

    class Turned(WindowedUNet):
        def __call__(self, sample, *arguments, **options):
            here, self.offset = self.offset, self.offset + 3
            answer = super().__call__(sample, *arguments, **options)
            self.offset = here
            return answer

    monkeypatch.setattr(looping, "WindowedUNet", Turned)
    turned = pipeline("a cat", **settings).frames
    torch.testing.assert_close(turned, straight.roll(3, dims=2), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(turned, straight, atol=1e-2)


def test_a_loop_is_no_plain_video(t2v):
    settings = {"num_frames": 4, "seeds": 1, "output_type": "latent"}
    assert (LoopedVideo(t2v)("a cat", **settings).frames - t2v("a cat", **settings).frames).abs().max() > 1e-3


def test_a_user_callback_still_has_the_last_word(t2v):
    def callback(pipeline, index, timestep, state):
        return {"latents": torch.zeros_like(state["latents"])}

    loop = LoopedVideo(t2v)("a cat", num_frames=6, seeds=1, output_type="latent", callback_on_step_end=callback)
    assert not loop.frames.any()
