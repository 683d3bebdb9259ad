"""A part of a video is copied where its keyframes allow that, and refused elsewhere."""

import io

import numpy as np
import pytest

from tests.unit.media.clips import numbered, numbers_in
from tests.unit.media.odd_videos import encode_video
from videocrafter.media.video_copy import copy_part
from videocrafter.media.video_reader import open_reader


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """30 numbered frames at 10 per second, a keyframe every 10."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return encode_video(path, numbered(30), 10, keyframe_every=10, options={"crf": "5", "sc_threshold": "0"})


def numbers(data: bytes) -> list[int]:
    with open_reader(io.BytesIO(data)) as reader:
        return numbers_in(reader.frames_at([(index + 0.5) / 10 for index in range(reader.num_frames)]))


@pytest.mark.parametrize(
    ("start_s", "end_s", "first", "last"), [(0, 3, 0, 29), (0, 1, 0, 9), (1, 2, 10, 19), (2, 9, 20, 29)]
)
def test_parts_between_keyframes_are_copied(film, start_s, end_s, first, last):
    data = copy_part(film, "film", start_s, end_s)
    assert data is not None
    assert numbers(data) == list(range(first, last + 1))
    assert copy_part(film, "film", start_s, end_s) == data


@pytest.mark.parametrize(("start_s", "end_s"), [(0.2, 3), (0, 0.5), (5, 6)])
def test_other_parts_are_refused(film, start_s, end_s):
    assert copy_part(film, "film", start_s, end_s) is None


def test_videos_of_other_codecs_are_refused(tmp_path):
    film = encode_video(tmp_path / "film.webm", np.zeros((5, 32, 32, 3), np.uint8), 10, codec="libvpx-vp9")
    assert copy_part(film, "film", 0, 1) is None
