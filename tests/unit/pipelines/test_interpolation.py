import numpy as np
import pytest
import torch
from PIL import Image

from videocrafter.pipelines.clip import encode_clip
from videocrafter.pipelines.interpolation import Interpolation

FIRST, LAST = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
LATENT = {"output_type": "latent", "seeds": 1}


@pytest.mark.parametrize("num_frames", [3, 4, 11])
def test_both_ends_are_the_pictures(t2v, num_frames):
    result = Interpolation(t2v, FIRST, LAST)(["a cat", "red car"], num_frames=num_frames, **LATENT).frames
    ends = encode_clip(t2v, np.stack([FIRST, LAST]))
    assert result.shape == (2, 4, num_frames, 2, 2)
    for video in result:
        assert torch.equal(video[:, [0, -1]], ends)


def test_both_pictures_count_for_the_frames_between(t2v):
    between = Interpolation(t2v, FIRST, LAST)("a cat", **LATENT).frames[:, :, 1:-1]
    for other in (Interpolation(t2v, LAST, LAST), Interpolation(t2v, FIRST, FIRST)):
        assert (other("a cat", **LATENT).frames[:, :, 1:-1] - between).abs().max() > 1e-3


def test_an_image_branch_sees_both_pictures(i2v):
    tokens = []
    handle = i2v.unet.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[4]))
    Interpolation(i2v, FIRST, LAST)("a cat", **LATENT)
    handle.remove()
    one, other = (
        i2v.encode(i2v.check_inputs("a cat"), [torch.from_numpy(x).permute(2, 0, 1)]) for x in (FIRST, LAST)
    )
    expected = [torch.cat([one[branch].image, other[branch].image], dim=1) for branch in (1, 0)]
    torch.testing.assert_close(tokens[0], torch.cat(expected))


def test_text_and_null_image_are_encoded_once(i2v):
    calls = []
    handles = [
        part.register_forward_pre_hook(lambda module, _: calls.append(module))
        for part in (i2v.text_encoder, i2v.image_encoder)
    ]
    Interpolation(i2v, FIRST, LAST)("a cat", **LATENT)
    for handle in handles:
        handle.remove()
    assert calls.count(i2v.text_encoder) == 2  # the prompt and the negative prompt
    assert calls.count(i2v.image_encoder) == 3  # both images and the null image


def test_another_image_can_be_given_instead(i2v):
    tokens = []
    handle = i2v.unet.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[4].shape[1]))
    Interpolation(i2v, FIRST, LAST)("a cat", image=FIRST, **LATENT)
    Interpolation(i2v, FIRST, LAST)("a cat", guidance_scale=1.0, **LATENT)
    handle.remove()
    assert set(tokens) == {3, 6}


def test_pictures_of_every_kind_and_size_are_taken(t2v):
    tensor = torch.from_numpy(LAST).permute(2, 0, 1) / 255
    result = Interpolation(t2v, Image.fromarray(FIRST), tensor)("a cat", **LATENT).frames
    assert torch.equal(Interpolation(t2v, FIRST, LAST)("a cat", **LATENT).frames, result)
    large = Image.new("RGB", (50, 20))
    assert Interpolation(t2v, large, LAST)("a cat", seeds=1).frames.shape == (1, 4, 16, 16, 3)
    with pytest.raises(ValueError, match="an image must be a path, a PIL image"):
        Interpolation(t2v, 1, LAST)


def test_there_must_be_a_frame_between(t2v):
    with pytest.raises(ValueError, match="num_frames must be at least 3, but is 2"):
        Interpolation(t2v, FIRST, LAST)("a cat", num_frames=2)
