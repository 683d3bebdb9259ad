import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from videocrafter.models.image_encoder import preprocess
from videocrafter.pipelines.image_fit import check_image_fit, fit_image, reduce_image
from videocrafter.pipelines.image_input import image_to_tensor

sides = st.integers(2, 60)


def test_stretch_leaves_it_to_the_encoder():
    image = torch.randn(3, 5, 9)
    assert fit_image(image, 320, 512, "stretch") is image


@given(sides, sides, st.integers(1, 40), st.integers(1, 40))
def test_crop_and_pad_give_the_shape_of_the_video_and_keep_the_middle(height, width, video_height, video_width):
    image = torch.arange(3.0 * height * width).reshape(3, height, width) + 1
    cropped = fit_image(image, video_height, video_width, "crop")
    padded = fit_image(image, video_height, video_width, "pad")
    for fitted in (cropped, padded):
        rows, columns = fitted.shape[1:]
        # The nearest whole number of pixels, but at least the two that the encoder needs.
        assert (
            abs(rows * video_width / video_height - columns) <= max(1.0, video_width / video_height)
            or 2 in fitted.shape
        )
    top, left = (height - cropped.shape[1]) // 2, (width - cropped.shape[2]) // 2
    assert torch.equal(cropped, image[:, top : top + cropped.shape[1], left : left + cropped.shape[2]])
    assert padded.sum() == image.sum()
    top, left = (padded.shape[1] - height) // 2, (padded.shape[2] - width) // 2
    assert torch.equal(padded[:, top : top + height, left : left + width], image)


def test_a_picture_of_the_videos_shape_is_not_touched():
    image = torch.randn(3, 40, 64)
    for fit in ("crop", "pad"):
        assert torch.equal(fit_image(image, 320, 512, fit), image)


def test_a_panorama_is_not_padded_to_gigabytes():
    with pytest.raises(ValueError, match="30000x2 is too thin to be padded"):
        fit_image(torch.zeros(3, 2, 30_000), 64, 64, "pad")


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="stretch, crop, pad, but is 'squash'"):
        check_image_fit("squash")


def photo(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x // 64 + y // 64) % 2 * 200], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("image", [photo(1343, 2000), torch.zeros(3, 9, 9), "no image", np.zeros((4000, 4000))])
def test_images_that_are_small_enough_or_no_photos_stay_as_they_are(image):
    assert reduce_image(image) is image


@pytest.mark.parametrize("of", [np.asarray, Image.fromarray])
def test_a_large_photo_looks_the_same_to_the_image_encoder(of):
    image = photo(1400, 2100)
    reduced = reduce_image(of(image))
    assert reduced.size == (1050, 700)
    before, after = (preprocess(image_to_tensor(one)[None], 224) for one in (image, reduced))
    assert (before - after).abs().mean() < 0.02  # about one level of 255
