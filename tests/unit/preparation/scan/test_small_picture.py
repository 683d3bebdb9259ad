"""Small pictures show the whole frame upright, whatever its format, size and orientation."""

import cv2
import numpy as np
import pytest

from tests.unit.media.odd_videos import encode_video
from videocrafter.media.framing import Framing
from videocrafter.media.video_reader import open_reader
from videocrafter.preparation.scan.small_picture import Shrinker


def quarters(height: int, width: int) -> np.ndarray:
    """Two frames of four colours: black, red, green, white."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[: height // 2, width // 2 :] = (220, 20, 20)
    frame[height // 2 :, : width // 2] = (20, 220, 20)
    frame[height // 2 :, width // 2 :] = 255
    return np.stack([frame] * 2)


FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuv420p10le")


@pytest.mark.parametrize(
    ("pix_fmt", "size", "matrix"),
    [(pix_fmt, (270, 486), None) for pix_fmt in FORMATS]
    + [("yuv420p", (90, 160), None), ("yuv420p", (540, 960), None)]
    + [("yuv420p", (270, 486), (0, 1, -1, 0)), ("yuv420p", (270, 486), (-1, 0, 0, 1))]
    + [("yuv420p10le", (270, 486), (0, 1, -1, 0))],
)
def test_a_small_picture_shows_the_frame(tmp_path, pix_fmt, size, matrix):
    name = "clip.mp4" if matrix else "clip.mkv"
    path = encode_video(tmp_path / name, quarters(*size), pix_fmt=pix_fmt, matrix=matrix, options={"crf": "5"})
    with open_reader(path) as reader:
        for frame in reader.walk():
            picture = Shrinker().shrink(frame)
            height, width = picture.luma.shape
            assert 128 < max(height, width) <= 256
            assert picture.half.shape == picture.rgb.shape[:2] == (height // 2, width // 2)
            shown = frame.pixels(Framing(height=height // 2, width=width // 2))
            assert np.abs(picture.rgb.astype(int) - shown).mean() < 4
            gray = cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY)
            assert np.abs(picture.gray(*gray.shape).astype(int) - gray).mean() < 4


def test_frames_of_another_size_are_scaled_to_that_of_the_first(tmp_path):
    first, second = (
        encode_video(tmp_path / f"{size[0]}.mkv", quarters(*size), options={"crf": "5"})
        for size in ((100, 160), (180, 320))
    )
    shrinker = Shrinker()
    pictures = []
    for path in (first, second):
        with open_reader(path) as reader:
            pictures += [shrinker.shrink(frame) for frame in reader.walk()]
    assert {picture.luma.shape for picture in pictures} == {(100, 160)}
    assert {picture.rgb.shape for picture in pictures} == {(50, 80, 3)}
    assert np.abs(pictures[0].rgb.astype(int) - pictures[-1].rgb).mean() < 6
