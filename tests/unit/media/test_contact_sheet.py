import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.media.clips import moving_disc
from videocrafter.media.contact_sheet import contact_sheet


def plain(num_frames: int, height: int, width: int, first_level: int = 10) -> np.ndarray:
    levels = first_level + 10 * np.arange(num_frames, dtype=np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num_frames, height, width, 3)).copy()


def levels_in_row(sheet: np.ndarray, y: int) -> list[int]:
    """Return the grey levels from left to right, without the white background."""
    row = sheet[y, :, 0].tolist()
    changes = [value for index, value in enumerate(row) if index == 0 or value != row[index - 1]]
    return [value for value in changes if value != 255]


def test_frames_stand_in_order_and_are_enlarged_without_smoothing():
    video = moving_disc(2, 8, 8)
    sheet = contact_sheet([video], scale=3)
    assert sheet.shape == (4 + 24 + 4, 4 + 24 + 4 + 24 + 4, 3)
    assert np.array_equal(sheet[4:28:3, 4:28:3], video[0])
    assert np.array_equal(sheet[6:28:3, 34:56:3], video[1])


def test_long_videos_show_evenly_spaced_frames_with_both_ends():
    sheet = contact_sheet([plain(9, 16, 16)], columns=3, scale=1)
    assert levels_in_row(sheet, 10) == [10, 50, 90]


def test_each_video_has_a_row_and_its_caption_above():
    videos = [plain(2, 16, 16), plain(3, 20, 12, first_level=100)]
    sheet = contact_sheet(videos, ["first", "second"], scale=1)
    assert sheet.shape == (4 + (20 + 16 + 4) + (20 + 20 + 4), 4 + 3 * 12 + 2 * 4 + 4, 3)
    assert levels_in_row(sheet, 4 + 20 + 8) == [10, 20]
    assert levels_in_row(sheet, 4 + 20 + 16 + 4 + 20 + 8) == [100, 110, 120]
    assert sheet[4:24].min() < 128  # ink
    assert contact_sheet(videos, ["", ""], scale=1)[4:24].min() == 255


def test_tiny_videos_are_enlarged_to_be_seen_and_large_ones_are_not():
    assert contact_sheet([plain(1, 16, 16)]).shape[0] == 128 + 8
    assert contact_sheet([plain(1, 300, 200)]).shape[0] == 300 + 8


@given(captions=st.lists(st.text(max_size=300), min_size=1, max_size=3), scale=st.integers(1, 3))
def test_any_caption_leaves_the_size_of_the_sheet_alone(captions, scale):
    videos = [plain(2, 12, 10)] * len(captions)
    expected = contact_sheet(videos, ["a"] * len(captions), scale=scale).shape
    assert contact_sheet(videos, captions, scale=scale).shape == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"videos": []}, "no videos"),
        ({"videos": [np.zeros((8, 8, 3), np.uint8)]}, r"\[T, H, W, 3\]"),
        ({"videos": [plain(1, 8, 8)], "captions": ["a", "b"]}, "2 captions for 1 videos"),
        ({"videos": [plain(1, 8, 8)], "columns": 0}, "columns is 0"),
        ({"videos": [plain(1, 8, 8)], "scale": 0}, "scale is 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet(**arguments)
