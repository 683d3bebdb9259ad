import io

import numpy as np
import pytest
from PIL import Image

from videocrafter.evaluation.comparison.films import make_film, read_shown
from videocrafter.media.errors import MediaError
from videocrafter.media.video_file import write_video


def tile(film, index):
    picture = np.asarray(Image.open(io.BytesIO(film.pictures[index // film.tiles])).convert("RGB"))
    place = index % film.tiles
    top, left = place // film.across * film.height, place % film.across * film.width
    return picture[top : top + film.height, left : left + film.width]


@pytest.mark.parametrize("count", [1, 7, 40])
def test_every_frame_is_found_again_exactly(count):
    frames = np.random.default_rng(0).integers(0, 255, (count, 12, 20, 3), dtype=np.uint8)
    film = make_film(frames, 8.0, (12, 20))
    assert film.num_frames == count
    assert all(np.array_equal(tile(film, index), frames[index]) for index in range(count))


def test_large_frames_are_shrunk_and_spread_over_pictures():
    film = make_film(np.zeros((40, 512, 512, 3), np.uint8), 8.0, (1024, 1024))
    assert film.tiles == 32
    assert len(film.pictures) == 2
    assert all(max(Image.open(io.BytesIO(one)).size) <= 16383 for one in film.pictures)


def test_reading_keeps_the_shape_in_mind(tmp_path):
    write_video(tmp_path / "a.mp4", np.zeros((5, 40, 80, 3), np.uint8), 8)
    frames, fps, shape = read_shown(tmp_path / "a.mp4", 20, 3)
    assert (frames.shape, fps, shape) == ((3, 10, 20, 3), 8.0, (40, 80))
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with pytest.raises(MediaError):
        read_shown(tmp_path / "b.mp4", 20, 3)
