import numpy as np
import pytest
import torch

from videocrafter.data.sprite_world.world import SpriteWorld, SpriteWorldConfig
from videocrafter.pipelines.image_notes import image_note
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.presets import resolve_model


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline(resolve_model("tiny", "i2v"), device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="module")
def request_64(pipeline):
    return pipeline.check_inputs("it is moving", height=64, width=64)


def test_frames_of_the_training_world_get_no_note(pipeline, request_64):
    world = SpriteWorld(SpriteWorldConfig(num_frames=1))
    for frame in world.render([world.script(index) for index in range(8)], 1)[:, 0]:
        assert image_note(pipeline, (frame + 1) / 2, request_64) is None


def test_photographs_and_noise_get_a_note(pipeline, request_64):
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (100, 80, 3), dtype=np.uint8)
    # Natural images have a spectrum of about 1/f.
    frequency = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.fftfreq(96)[None])[..., None]
    photo = np.fft.ifft2(
        np.fft.fft2(random.normal(size=(96, 96, 3)), axes=(0, 1)) / (frequency + 0.01), axes=(0, 1)
    ).real
    photo = np.clip(128 + 60 * photo / photo.std(), 0, 255).astype(np.uint8)
    for image in (noise, photo):
        note = image_note(pipeline, image, request_64)
        assert note is not None
        assert "unlike the model's training images" in note
