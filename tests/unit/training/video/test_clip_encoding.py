from __future__ import annotations

import pytest
import torch

from tests.tiny_models import tiny_pipeline
from videocrafter.data.sample import VideoBatch
from videocrafter.models.autoencoder import encode_posterior
from videocrafter.models.image_encoder import encode_image
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.training.video.clip_encoding import ClipEncoder

CAPTIONS = ("a rocket moving left", "a cat at night over the blue sky", "")


def encoder_of(pipeline: ImageToVideoPipeline, **options: object) -> ClipEncoder:
    return ClipEncoder(
        pipeline.vae,
        pipeline.tokenizer,
        pipeline.text_encoder,
        pipeline.image_encoder,
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture
def pipeline() -> ImageToVideoPipeline:
    found = tiny_pipeline(image=True)
    assert isinstance(found, ImageToVideoPipeline)
    return found


def clips(num_frames: int = 4, keys: tuple[str, ...] = ("clip 0", "clip 1", "clip 2")) -> VideoBatch:
    pixels = torch.rand(3, num_frames, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return VideoBatch(pixels=pixels, captions=CAPTIONS, fps=torch.tensor([8.0, 12.0, 24.0]), keys=keys)


def test_clips_become_what_the_pipeline_works_with(pipeline: ImageToVideoPipeline) -> None:
    batch = clips()
    encoded = encoder_of(pipeline, condition_frame="first").encode(batch)
    posterior = encode_posterior(pipeline.vae, batch.pixels)
    torch.testing.assert_close(encoded.latents.mean, posterior.mean)
    torch.testing.assert_close(encoded.latents.std, posterior.std)
    torch.testing.assert_close(encoded.text, pipeline.encode_prompts(CAPTIONS))
    assert encoded.image_tokens is not None
    torch.testing.assert_close(
        pipeline.image_projector(encoded.image_tokens), pipeline.encode_images(list(batch.pixels[:, 0]))
    )
    assert encoded.fps.tolist() == [8.0, 12.0, 24.0]
    assert (encoded.captions, encoded.keys) == (batch.captions, batch.keys)
    assert (len(encoded), encoded.num_frames) == (3, 4)


def test_null_conditions_are_those_of_guidance(pipeline: ImageToVideoPipeline) -> None:
    encoder = encoder_of(pipeline)
    request = pipeline.check_inputs("a cat", guidance_scale=4.0)
    _, unconditional = pipeline.encode(request, [torch.ones(3, 16, 16)])
    assert unconditional is not None
    torch.testing.assert_close(encoder.null_text(), unconditional.text)
    torch.testing.assert_close(pipeline.image_projector(encoder.null_image()), unconditional.image)


def test_the_condition_frame_is_drawn_by_the_clips_name(pipeline: ImageToVideoPipeline) -> None:
    encoder = encoder_of(pipeline, condition_frame="random")
    batch = clips()
    every_frame = torch.stack([encode_image(pipeline.image_encoder, batch.pixels[:, number]) for number in range(4)])

    def chosen(index: int, key: str) -> int:
        keys = tuple(key if other == index else f"other {other}" for other in range(3))
        tokens = encoder.encode(clips(keys=keys)).image_tokens
        assert tokens is not None
        distance = (every_frame[:, index] - tokens[index]).abs().flatten(1).amax(dim=1)
        assert float(distance.min()) < 1e-5
        return int(distance.argmin())

    by_name = [chosen(0, f"clip {number}") for number in range(24)]
    assert set(by_name) == {0, 1, 2, 3}
    assert [chosen(2, f"clip {number}") for number in range(24)] == by_name, "wherever in a batch the clip is"


def test_an_image_is_its_own_condition(pipeline: ImageToVideoPipeline) -> None:
    batch = clips(num_frames=1)
    encoded = encoder_of(pipeline, condition_frame="random").encode(batch)
    assert encoded.num_frames == 1
    torch.testing.assert_close(encoded.image_tokens, encode_image(pipeline.image_encoder, batch.pixels[:, 0]))


def test_without_an_image_tower_there_are_no_image_tokens(pipeline: ImageToVideoPipeline) -> None:
    encoder = ClipEncoder(pipeline.vae, pipeline.tokenizer, pipeline.text_encoder)
    assert encoder.encode(clips()).image_tokens is None
    assert set(encoder.networks()) == {"vae", "text_encoder"}


def test_the_networks_are_frozen(pipeline: ImageToVideoPipeline) -> None:
    for network in (pipeline.vae, pipeline.text_encoder, pipeline.image_encoder):
        network.train().requires_grad_(True)
    encoder = encoder_of(pipeline)
    assert set(encoder.networks()) == {"vae", "text_encoder", "image_encoder"}
    for network in encoder.networks().values():
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
    encoded = encoder.encode(clips())
    assert not any(one.requires_grad for one in (encoded.latents.mean, encoded.text, encoder.null_text()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_precision_of_training_changes_nothing_and_the_networks_own_does(
    pipeline: ImageToVideoPipeline, dtype: torch.dtype
) -> None:
    exact = encoder_of(pipeline).encode(clips())
    for network in (pipeline.vae, pipeline.text_encoder, pipeline.image_encoder):
        network.to(dtype)
    encoder = encoder_of(pipeline)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within, null_text, null_image = encoder.encode(clips()), encoder.null_text(), encoder.null_image()
    plain, fresh = encoder.encode(clips()), encoder_of(pipeline)
    assert within.image_tokens is not None
    for one, other in (
        (within.latents.mean, plain.latents.mean),
        (within.latents.std, plain.latents.std),
        (within.text, plain.text),
        (within.image_tokens, plain.image_tokens),
        (null_text, fresh.null_text()),
        (null_image, fresh.null_image()),
    ):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)
    assert torch.equal(plain.latents.mean, exact.latents.mean) == (dtype == torch.float32)
    torch.testing.assert_close(plain.latents.mean, exact.latents.mean, atol=0.05, rtol=0.05)


def test_the_autoencoder_sees_few_frames_at_once(pipeline: ImageToVideoPipeline) -> None:
    seen: list[int] = []
    pipeline.vae.encoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    encoder_of(pipeline, chunk=5).encode(clips())
    assert seen == [5, 5, 2]


def test_everything_moves_to_a_device(pipeline: ImageToVideoPipeline) -> None:
    encoded = encoder_of(pipeline).encode(clips()).to(torch.device("meta"))
    assert encoded.image_tokens is not None
    for tensor in (encoded.latents.mean, encoded.latents.std, encoded.text, encoded.fps, encoded.image_tokens):
        assert tensor.is_meta
