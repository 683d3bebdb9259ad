from typing import Any

import pytest
import torch
from diffusers import AsymmetricAutoencoderKL, AutoencoderKL, AutoencoderKLTemporalDecoder, AutoencoderTiny

from videocrafter.models.autoencoder import (
    check_decoder,
    decode_video,
    decoded_at_once,
    encode_posterior,
    encode_video,
    spatial_factor,
)


def tiny_vae(**changes) -> AutoencoderKL:
    torch.manual_seed(0)
    settings = {
        "block_out_channels": (8, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "norm_num_groups": 4,
        "latent_channels": 3,
        "scaling_factor": 0.5,
    }
    return AutoencoderKL(**{**settings, **changes}).eval().requires_grad_(False)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.rand(2, 5, 3, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_layouts_and_factor(pixels) -> None:
    vae = tiny_vae()
    latents = encode_video(vae, pixels)
    assert spatial_factor(vae) == 4
    assert latents.shape == (2, 3, 5, 4, 6)
    assert decode_video(vae, latents).shape == pixels.shape


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_the_chunk_does_not_matter(pixels, chunk: int) -> None:
    vae = tiny_vae()
    wanted = encode_video(vae, pixels, generator=torch.Generator().manual_seed(4), chunk=10)
    got = encode_video(vae, pixels, generator=torch.Generator().manual_seed(4), chunk=chunk)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(
        decode_video(vae, wanted, chunk=chunk), decode_video(vae, wanted, chunk=10), rtol=1e-4, atol=2e-5
    )


def test_no_more_frames_than_the_chunk_at_once(pixels) -> None:
    vae = tiny_vae()
    seen = []
    vae.encoder.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    vae.decoder.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    decode_video(vae, encode_video(vae, pixels, chunk=4), chunk=3)
    assert seen == [4, 4, 2, 3, 3, 3, 1]


@pytest.mark.parametrize("shift", [None, 0.3])
def test_scale_and_shift_are_applied_and_undone(pixels, shift: float | None) -> None:
    vae = tiny_vae(shift_factor=shift)
    frame = pixels[1, 2][None]
    mean = vae.encode(frame).latent_dist.mode()
    latents = encode_video(vae, pixels, sample=False)
    torch.testing.assert_close(latents[1:2, :, 2], (mean - (shift or 0.0)) * 0.5, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(decode_video(vae, latents)[1:2, 2], vae.decode(mean).sample, rtol=1e-4, atol=2e-5)


def test_a_video_does_not_depend_on_its_neighbours(pixels) -> None:
    vae = tiny_vae()

    def seeded(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    both = encode_video(vae, pixels, generator=seeded(1, 2))
    alone = encode_video(vae, pixels[1:], generator=seeded(2))
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=2e-5)
    assert not torch.allclose(both[1:], encode_video(vae, pixels[1:], generator=seeded(3)), atol=1e-2)


def test_gradients_reach_the_pixels(pixels) -> None:
    pixels.requires_grad_(True)
    encode_video(tiny_vae(), pixels, sample=False).square().sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0


def test_bad_arguments_are_named(pixels) -> None:
    vae = tiny_vae()
    with pytest.raises(ValueError, match=r"\(5, 3, 16, 24\).*B T C H W"):
        encode_video(vae, pixels[0])
    with pytest.raises(ValueError, match=r"15 x 24 pixels.*multiples of 4"):
        encode_video(vae, pixels[..., :15, :])
    with pytest.raises(ValueError, match="got 1 generators for 2 videos"):
        encode_video(vae, pixels, generator=[torch.Generator()])
    with pytest.raises(ValueError, match=r"chunk is 0.*at least 1"):
        encode_video(vae, pixels, chunk=0)
    with pytest.raises(ValueError, match="B C T H W"):
        decode_video(vae, torch.zeros(1, 3, 4, 4))


def test_the_posterior_is_that_of_the_encoder_scaled(pixels) -> None:
    vae = tiny_vae(shift_factor=0.3)
    posterior = encode_posterior(vae, pixels, chunk=3)
    theirs = vae.encode(pixels.flatten(0, 1)).latent_dist
    mean, std = ((theirs.mean - 0.3) * 0.5, theirs.std * 0.5)
    for mine, wanted in ((posterior.mean, mean), (posterior.std, std)):
        assert mine.is_contiguous()
        torch.testing.assert_close(mine, wanted.unflatten(0, (2, 5)).transpose(1, 2), rtol=1e-4, atol=1e-5)
    assert bool((posterior.std > 0).all())


@pytest.mark.parametrize("chunk", [1, 100])
def test_a_draw_is_the_mean_plus_noise_times_the_standard_deviation(pixels, chunk: int) -> None:
    vae = tiny_vae()
    posterior = encode_posterior(vae, pixels, chunk=chunk)
    drawn = posterior.draw(torch.Generator().manual_seed(3))
    noise = torch.randn(2, 5, 3, 4, 6, generator=torch.Generator().manual_seed(3)).transpose(1, 2)
    torch.testing.assert_close((drawn - posterior.mean) / posterior.std, noise, rtol=1e-3, atol=1e-3)
    assert torch.equal(drawn, posterior.draw(torch.Generator().manual_seed(3)))
    assert torch.equal(encode_video(vae, pixels, generator=torch.Generator().manual_seed(3), chunk=chunk), drawn)
    assert torch.equal(encode_video(vae, pixels, sample=False, chunk=chunk), posterior.mean)


def test_the_posterior_has_the_encoders_precision(pixels) -> None:
    posterior = encode_posterior(tiny_vae().to(torch.bfloat16), pixels)
    assert (posterior.mean.dtype, posterior.std.dtype) == (torch.bfloat16, torch.bfloat16)
    torch.testing.assert_close(posterior.mean.float(), encode_posterior(tiny_vae(), pixels).mean, atol=0.1, rtol=0.1)


def _other_autoencoder(name: str) -> Any:
    if name == "AsymmetricAutoencoderKL":
        return AsymmetricAutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            down_block_out_channels=(8, 8),
            up_block_types=("UpDecoderBlock2D",) * 2,
            up_block_out_channels=(8, 16),
            norm_num_groups=4,
        ).eval()
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()


@pytest.mark.parametrize("name", ["AsymmetricAutoencoderKL", "AutoencoderTiny"])
@torch.no_grad()
def test_other_autoencoders_of_images_decode(name: str) -> None:
    vae = _other_autoencoder(name)
    check_decoder(vae, 4)
    latents = torch.randn(1, 4, 3, 4, 4)
    assert decode_video(vae, latents).shape == (1, 3, 3, 8, 8)
    if name == "AutoencoderTiny":
        with pytest.raises(ValueError, match="AutoencoderTiny does not encode into a distribution"):
            encode_video(vae, torch.zeros(1, 1, 3, 8, 8))
    else:
        assert encode_video(vae, torch.zeros(1, 1, 3, 8, 8)).shape == (1, 4, 1, 4, 4)


def test_autoencoders_that_cannot_decode_these_latents_are_refused() -> None:
    with pytest.raises(ValueError, match="4 latent channels, but the network has 16"):
        check_decoder(_other_autoencoder("AsymmetricAutoencoderKL"), 16)
    with pytest.raises(ValueError, match="decode needs num_frames"):
        check_decoder(AutoencoderKLTemporalDecoder(block_out_channels=(32,)), 4)
    with pytest.raises(ValueError, match="Linear has no in_channels"):
        check_decoder(torch.nn.Linear(1, 1), 4)


@pytest.mark.parametrize(
    ("widths", "size", "element_bytes", "frames"),
    [
        ((128, 256, 512, 512), (256, 256), 2, 2),
        ((128, 256, 512, 512), (256, 256), 4, 1),
        ((128, 256, 512, 512), (576, 1024), 2, 1),
        ((96, 128), (32, 32), 4, 8),
    ],
)
def test_frames_are_decoded_together_while_they_are_small(
    widths: tuple[int, ...], size: tuple[int, int], element_bytes: int, frames: int
) -> None:
    latent_pixels = size[0] * size[1] // 4 ** (len(widths) - 1)
    assert decoded_at_once(widths, latent_pixels, element_bytes) == frames


def test_decoding_does_not_depend_on_the_frames_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = tiny_vae()
    latents = torch.randn(1, 3, 5, 2, 3)
    with torch.no_grad():
        expected = decode_video(vae, latents, chunk=5)
        monkeypatch.setattr("videocrafter.models.autoencoder.DECODER_BYTES", 1)
        torch.testing.assert_close(decode_video(vae, latents), expected)
