"""Stored planes show what the conversion to RGB shows, at no cost."""

import numpy as np
import pytest

from tests.unit.media.clips import moving_disc
from tests.unit.media.odd_videos import encode_video
from tests.unit.media.test_shown_frame import COLOUR_NUMBERS, RED, plain
from videocrafter.media.framing import Framing
from videocrafter.media.video_reader import open_reader


def rgb_of(planes) -> np.ndarray:
    rows, columns = (np.arange(size) * small // size for size, small in zip(
        planes.luma.shape, planes.chroma[0].shape, strict=True
    ))  # fmt: skip
    stacked = [planes.luma, *(plane[rows][:, columns] for plane in planes.chroma), np.ones_like(planes.luma)]
    return np.clip(np.stack(stacked, axis=-1) @ planes.to_rgb.T, 0, 255)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuvj420p"])
def test_planes_and_matrix_give_the_pixels_that_are_shown(tmp_path, pix_fmt):
    path = encode_video(tmp_path / "clip.mkv", moving_disc(3, 50, 86), pix_fmt=pix_fmt, options={"crf": "5"})
    with open_reader(path) as reader:
        for frame in reader.walk():
            planes = frame.planes()
            assert planes.luma.shape == frame.size == (50, 86)
            shown = frame.pixels(Framing(height=50, width=86))
            assert np.abs(rgb_of(planes) - shown).mean() < 2
            gray = (planes.luma - planes.luma_black) * planes.luma_step
            assert np.abs(gray - shown @ [0.299, 0.587, 0.114]).mean() < 2


@pytest.mark.parametrize("standard", ["601", "709", "2020"])
def test_the_matrix_of_colours_is_the_stated_one(tmp_path, standard):
    path = plain(tmp_path / "clip.mp4", RED[standard], colorspace=COLOUR_NUMBERS[standard], color_range=1)
    with open_reader(path) as reader:
        (frame,) = reader.walk()
        assert np.abs(rgb_of(frame.planes())[8, 8] - (255, 0, 0)).max() <= 3


def test_other_formats_have_no_planes_of_bytes(tmp_path):
    path = encode_video(tmp_path / "clip.mkv", moving_disc(2), pix_fmt="yuv420p10le")
    with open_reader(path) as reader:
        assert [frame.planes() for frame in reader.walk()] == [None, None]
