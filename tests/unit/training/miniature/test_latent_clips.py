from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from transformers import CLIPVisionModel

from tests.tiny_parts import CPU, WORLD
from videocrafter.data.sprite_world.world import SpriteWorld
from videocrafter.models.autoencoder import encode_video
from videocrafter.models.image_encoder import encode_image
from videocrafter.training.miniature.latent_clips import LatentClipSource


@pytest.fixture(scope="module")
def vae(parts: Path) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(parts / "vae").eval()


@pytest.fixture(scope="module")
def image_encoder(parts: Path) -> CLIPVisionModel:
    return CLIPVisionModel.from_pretrained(parts / "image_encoder").eval()


def source(vae: AutoencoderKL, image_encoder: CLIPVisionModel | None = None, **changes: Any) -> LatentClipSource:
    settings: dict[str, Any] = {"num_clips": 12, "block_size": 2, "device": CPU, **changes}
    return LatentClipSource(SpriteWorld(WORLD), vae, image_encoder, **settings)


def order(source: LatentClipSource, epoch: int, seed: int = 0) -> list[str]:
    batch = source.batch(epoch * source.num_blocks, source.num_blocks, seed)
    return [f"{script}" for script in batch.scripts]


def test_latents_are_those_of_a_fresh_encoding(vae: AutoencoderKL, image_encoder: CLIPVisionModel) -> None:
    clips = source(vae, image_encoder).clips([3, 1])
    world = SpriteWorld(WORLD)
    assert clips.scripts == tuple(world.script(index) for index in (6, 7, 2, 3))
    pixels = world.render(clips.scripts)
    with torch.no_grad():
        latents, tokens = encode_video(vae, pixels, sample=False), encode_image(image_encoder, pixels[:, 0])
    assert clips.latents.shape == (4, 4, 4, 2, 2)
    assert clips.latents.dtype == torch.float32
    # They are kept in half precision.
    torch.testing.assert_close(clips.latents, latents, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(clips.image_tokens, tokens, atol=5e-3, rtol=2e-3)
    assert clips.captions == [script.caption for script in clips.scripts]
    assert clips.fps.tolist() == [script.fps for script in clips.scripts]


def test_values_do_not_depend_on_when_a_block_was_encoded(vae: AutoencoderKL, image_encoder: CLIPVisionModel) -> None:
    """A resumed run encodes its blocks again, in another order."""
    one, other = source(vae, image_encoder), source(vae, image_encoder)
    one.batch(0, 6, seed=0)
    kept = one.clips([4])
    other.clips([5, 4])
    for again in (one.clips([4]), other.clips([4])):
        assert torch.equal(again.latents, kept.latents)
        assert torch.equal(again.image_tokens, kept.image_tokens)


def test_a_block_is_encoded_once(vae: AutoencoderKL, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = source(vae)
    rendered: list[int] = []
    render = clips.world.render
    monkeypatch.setattr(clips.world, "render", lambda scripts: rendered.append(len(scripts)) or render(scripts))
    for epoch in range(3):
        order(clips, epoch)
    assert rendered == [2] * 6


def test_every_clip_comes_once_per_epoch_in_a_new_order(vae: AutoencoderKL) -> None:
    clips = source(vae)
    epochs = [order(clips, epoch) for epoch in range(4)]
    assert all(len(set(epoch)) == 12 for epoch in epochs)
    assert all(set(epoch) == set(epochs[0]) for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 1
    assert order(clips, 0, seed=1) != epochs[0]


def test_a_batch_depends_on_its_place_alone(vae: AutoencoderKL) -> None:
    clips, fresh = source(vae), source(vae)
    whole = [script for first in range(0, 18, 3) for script in clips.batch(first, 3, seed=4).scripts]
    # Across the border between two epochs, without what came before.
    assert list(fresh.batch(4, 4, seed=4).scripts) == whole[8:16]
    assert list(fresh.batch(13, 2, seed=4).scripts) == whole[26:30]
    assert len(fresh.batch(2**40 + 5, 3, seed=4)) == 6


def test_images_are_single_frames_with_their_own_captions(vae: AutoencoderKL) -> None:
    images = source(vae, images=True).clips([0])
    assert images.latents.shape == (2, 4, 1, 2, 2)
    assert images.scripts == tuple(SpriteWorld(WORLD).image_script(index) for index in range(2))
    assert images.image_tokens is None


def test_clips_are_rounded_down_to_whole_blocks(vae: AutoencoderKL) -> None:
    assert source(vae, num_clips=13, block_size=4).num_blocks == 3
    with pytest.raises(ValueError, match="num_clips is 3; it must be at least the block size, 4"):
        source(vae, num_clips=3, block_size=4)
