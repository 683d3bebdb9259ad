import numpy as np
import pytest
import torch

from videocrafter.models.image_encoder import (
    CLIP_MEAN,
    CLIP_STD,
    encode_image,
    null_image,
    preprocess,
    tiny_image_encoder,
)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return tiny_image_encoder(image_size=32, patch=8, hidden=32, layers=2, heads=2).requires_grad_(False)


def denormalise(x: torch.Tensor) -> torch.Tensor:
    return (x * torch.tensor(CLIP_STD).view(-1, 1, 1) + torch.tensor(CLIP_MEAN).view(-1, 1, 1)) * 2 - 1


def test_all_tokens_of_the_last_block_without_a_final_norm(encoder) -> None:
    pixels = torch.rand(2, 3, 20, 44) * 2 - 1
    tokens = encode_image(encoder, pixels)
    assert tokens.shape == (2, 17, 32)
    hidden = encoder(pixel_values=preprocess(pixels, 32), output_hidden_states=True).hidden_states
    assert torch.equal(tokens, hidden[-1])
    normed = encoder.post_layernorm(tokens)
    assert (tokens - normed).abs().max() > 1e-2


def test_null_image_is_mid_grey(encoder) -> None:
    null = null_image(3, encoder)
    assert null.shape == (3, 3, 32, 32)
    assert (null == 0).all()
    expected = (0.5 - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
    torch.testing.assert_close(preprocess(null, 32)[0, :, 5, 5], expected)


def test_same_size_is_only_normalised() -> None:
    pixels = torch.rand(1, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(denormalise(preprocess(pixels, 32)), pixels, rtol=1e-5, atol=1e-6)


def test_corners_are_aligned_and_aspect_is_squashed() -> None:
    ramp = torch.linspace(-1, 1, 12).view(1, 1, 1, 12).expand(1, 3, 6, 12)
    resized = denormalise(preprocess(ramp, 32))
    # Aligned corners keep both ends and an almost straight ramp; otherwise it is off by 0.04.
    assert resized[0, 0, 7, 0].item() == pytest.approx(-1, abs=1e-4)
    assert resized[0, 0, 7, -1].item() == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(resized[0, 0, 7, 4:-4], torch.linspace(-1, 1, 32)[4:-4], rtol=0, atol=0.02)


@pytest.mark.parametrize(("height", "width"), [(64, 32), (96, 20), (320, 512)])
def test_shrinking_blurs_each_axis_by_its_own_factor(height: int, width: int) -> None:
    """Compared with a blur in numpy: sigma (factor - 1) / 2, an odd number of taps from 3, mirrored border."""
    size = 32
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (height, width))
    blurred = image
    for axis, length in enumerate((height, width)):
        sigma = max((length / size - 1) / 2, 0.001)
        taps = int(max(2 * 2 * sigma, 3))
        taps += 1 - taps % 2
        positions = np.arange(taps) - taps // 2
        kernel = np.exp(-(positions**2) / (2 * sigma**2))
        kernel /= kernel.sum()
        border = [(0, 0), (0, 0)]
        border[axis] = (taps // 2, taps // 2)
        padded = np.pad(blurred, border, mode="reflect")
        blurred = np.apply_along_axis(np.convolve, axis, padded, kernel, mode="valid")
    as_tensor = torch.from_numpy(blurred)[None, None].expand(1, 3, -1, -1)
    wanted = torch.nn.functional.interpolate(as_tensor, size=(size, size), mode="bicubic", align_corners=True)
    pixels = torch.from_numpy(image)[None, None].expand(1, 3, -1, -1)
    torch.testing.assert_close(denormalise(preprocess(pixels, size)), wanted, rtol=1e-5, atol=1e-6)


def test_half_precision_is_resized_in_single() -> None:
    pixels = (torch.rand(1, 3, 40, 40) * 2 - 1).half()
    assert preprocess(pixels, 32).dtype == torch.float32


def test_bad_arguments_are_named(encoder) -> None:
    with pytest.raises(ValueError, match=r"\(3, 8, 8\).*B 3 H W"):
        encode_image(encoder, torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match=r"image_size is 30.*multiple of patch \(8\)"):
        tiny_image_encoder(image_size=30, patch=8)
