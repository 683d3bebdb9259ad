import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.pipelines.image_fit import check_image_fit, fit_image

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
