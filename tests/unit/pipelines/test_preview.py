from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from videocrafter.models.autoencoder import encode_video
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.preview import LatentPreview


class Posterior:
    def __init__(self, parameters: Tensor) -> None:
        self.parameters = parameters
        self.latent_dist = self


class LinearVae:
    """An autoencoder whose latents mix the mean colours of 4 x 4 pixels in a known way, plus a constant channel."""

    dtype, device = torch.float32, torch.device("cpu")

    config = SimpleNamespace(in_channels=3, block_out_channels=(8, 8, 8), scaling_factor=0.5, shift_factor=0.1)
    mixture = torch.tensor([[1.0, 0.5, 0.0], [0.0, -1.0, 0.3], [0.2, 0.0, 2.0], [0.0, 0.0, 0.0]])

    def encode(self, pixels: Tensor) -> Posterior:
        means = torch.nn.functional.avg_pool2d(pixels, 4)
        latents = torch.einsum("kc,nchw->nkhw", self.mixture, means) + 0.7
        return Posterior(torch.cat([latents, torch.full_like(latents, -30.0)], dim=1))


def test_a_linear_autoencoder_is_inverted():
    vae = LinearVae()
    preview = LatentPreview.fit(vae)
    colours = torch.rand(1, 2, 3, 3, 5, generator=torch.Generator().manual_seed(3)) * 2 - 1
    pixels = colours.repeat_interleave(4, 3).repeat_interleave(4, 4)
    latents = encode_video(vae, pixels, sample=False)
    frames = preview.frames(latents)
    assert frames.shape == (1, 2, 12, 20, 3)
    assert frames.dtype == np.uint8
    wanted = ((pixels + 1) * 127.5).permute(0, 1, 3, 4, 2).numpy()
    assert np.abs(frames - wanted).max() <= 3


@pytest.fixture(scope="module")
def shipped():
    pipeline = load_pipeline("tiny")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_the_shipped_autoencoder_is_previewed_in_about_its_colours(shipped):
    preview = LatentPreview.fit(shipped.vae)
    result = shipped("a cat over the green meadow", seeds=1, num_inference_steps=4, output_type="latent")
    with torch.no_grad():
        decoded = shipped.decode_latents(result.frames).clamp(-1, 1)
    colours = ((decoded + 1) * 127.5).permute(0, 1, 3, 4, 2).numpy()
    scale = preview.scale

    def coarse(frames):
        rows, columns = frames.shape[2] // scale, frames.shape[3] // scale
        return frames.reshape(*frames.shape[:2], rows, scale, columns, scale, 3).mean(axis=(3, 5))

    drawn = coarse(preview.frames(result.frames).astype(float))
    wanted = coarse(colours)
    assert np.abs(drawn - wanted).mean() < 20
    assert np.corrcoef(drawn.ravel(), wanted.ravel())[0, 1] > 0.9


def test_the_estimate_after_the_first_step_is_nearer_to_the_end_than_the_noise_is(shipped):
    states = []

    def remember(_pipeline, _step, _timestep, state):
        states.append((state["denoised"], state["latents"]))
        return {}

    settings = {"seeds": 1, "num_inference_steps": 6, "output_type": "latent"}
    final = shipped("a cat over the green meadow", callback_on_step_end=remember, **settings).frames
    estimate, noisy = states[1]
    assert (estimate - final).std() < 0.7 * (noisy - final).std()


def test_broken_numbers_are_drawn_as_something():
    preview = LatentPreview(torch.ones(2, 3), torch.zeros(3), 2)
    assert preview.frames(torch.full((1, 2, 1, 2, 2), float("nan"))).shape == (1, 1, 4, 4, 3)
