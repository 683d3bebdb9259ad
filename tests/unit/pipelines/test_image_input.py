import numpy as np
import pytest
import torch
from PIL import Image

from videocrafter.media.image_file import write_image
from videocrafter.pipelines.image_input import image_to_tensor, in_order

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(PICTURE).permute(2, 0, 1)


def test_every_form_of_a_picture_is_the_same_picture(tmp_path):
    path = tmp_path / "picture.png"
    write_image(path, PICTURE)
    expected = image_to_tensor(PICTURE)
    assert expected.shape == (3, 20, 24)
    assert (float(expected.min()), float(expected.max())) == (-1.0, 1.0)
    forms = (TENSOR, TENSOR / 255, (TENSOR / 255).double(), PICTURE / 255, PICTURE / np.float32(255))
    for form in (*forms, Image.fromarray(PICTURE), path, str(path)):
        torch.testing.assert_close(image_to_tensor(form), expected)


def test_one_array_or_tensor_may_hold_an_image_per_prompt(i2v):
    settings = {"prompt": ["a cat", "rocket"], "seeds": [1, 2], "output_type": "latent"}
    tensors = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    expected = i2v(image=list(tensors), **settings).frames
    for form in (tensors, tensors.permute(0, 2, 3, 1).numpy()):
        torch.testing.assert_close(i2v(image=form, **settings).frames, expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4)), r"must be \[H, W, 3\], but is float64 \[4, 4\]"),
        (np.zeros((4, 4, 3), bool), "pixels are bool; expected uint8, or floats from 0 to 1"),
        (np.zeros((4, 4, 3), int), "pixels are torch.int64"),
        (torch.zeros(1, 4, 4), r"must be \[3, H, W\]"),
        (torch.zeros(4, 4, 3), r"must be \[3, H, W\]"),
        (torch.zeros(3, 1, 9), "at least 2 pixels per side, but is 9x1"),
        (torch.linspace(-1, 1, 48).view(3, 4, 4), r"from -1 to 1; .*pass \(pixels \+ 1\) / 2"),
        (torch.full((3, 4, 4), 200.0), "divided by 255"),
        (np.full((4, 4, 3), np.nan), "NaN"),
        ("missing.png", "missing.png does not exist"),
        (7, "must be a path, a PIL image, an array .* but is int"),
    ],
)
def test_what_is_not_an_image_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        image_to_tensor(image)


PIL = Image.fromarray(PICTURE)


@pytest.mark.parametrize(
    ("positional", "keywords"),
    [
        ((PIL, "a cat", "night"), {}),
        (("a cat", PIL, "night"), {}),
        (("a cat", "night"), {"image": PIL}),
        ((PIL,), {"prompt": "a cat", "negative_prompt": "night"}),
        ((), {"image": PIL, "prompt": "a cat", "negative_prompt": "night"}),
    ],
)
def test_image_and_prompt_come_in_either_order(positional, keywords):
    given = {"image": None, "prompt": None, "negative_prompt": None, **keywords}
    assert in_order(positional, **given) == (PIL, "a cat", "night")


def test_lists_come_in_either_order_and_two_strings_are_image_and_prompt():
    nothing = {"image": None, "prompt": None, "negative_prompt": None}
    assert in_order((["a", "b"], [PIL, PIL]), **nothing) == ([PIL, PIL], ["a", "b"], None)
    assert in_order(("picture.png", "a cat"), **nothing) == ("picture.png", "a cat", None)
    with pytest.raises(TypeError, match="image is given twice"):
        in_order((PIL, "a cat"), **{**nothing, "image": PIL})
    with pytest.raises(TypeError, match="at most 3 positional"):
        in_order((PIL, "a", "b", "c"), **nothing)


def test_a_prompt_in_the_place_of_a_path_is_not_taken_for_one(i2v):
    with pytest.raises(ValueError, match="a cat does not exist or is not a file"):
        i2v("a cat", "picture.png")
