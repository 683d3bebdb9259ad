"""Frames are shown upright, unmirrored, with square pixels and in the right colours, whoever reads them."""

import logging
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from tests.unit.media.clips import moving_disc
from tests.unit.media.odd_videos import encode_video
from videocrafter.media.errors import UnusableMediaError
from videocrafter.media.video_file import probe, read_frames
from videocrafter.media.video_reader import open_reader

# The eight symmetries of a rectangle: a, b, c, d of x' = a x + c y and y' = b x + d y.
SYMMETRIES = [(a, 0, 0, d) for a, d in product((1, -1), repeat=2)]
SYMMETRIES += [(0, b, c, 0) for b, c in product((1, -1), repeat=2)]
# Y, U, V in limited range of pure red, and of a light green.
RED = {"601": (81, 90, 240), "709": (63, 102, 240), "2020": (74, 97, 240)}
COLOUR_NUMBERS = {"601": 6, "709": 1, "2020": 9}


def both(path: Path) -> list[np.ndarray]:
    """Return the first frame as generation and as training read it."""
    with open_reader(path) as reader:
        pictures = [read_frames(path, max_frames=1)[0], read_frames(path, [0.0])[0], reader.frames_at([0.0])[0]]
        assert pictures[0].shape[:2] == reader.size == (probe(path).height, probe(path).width)
    return pictures


def displayed(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Move each pixel by a matrix, and the whole back to the origin."""
    a, b, c, d = matrix
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    new_x, new_y = a * x + c * y, b * x + d * y
    new_x, new_y = new_x - new_x.min(), new_y - new_y.min()
    moved = np.empty((new_y.max() + 1, new_x.max() + 1, 3), image.dtype)
    moved[new_y, new_x] = image[y, x]
    return moved


def plain(path: Path, yuv: tuple[int, int, int], width: int = 64, height: int = 64, **colours: int) -> Path:
    """Write a lossless video of one colour, given as stored."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for attribute, value in colours.items():
            setattr(stream.codec_context, attribute, value)
        frame = av.VideoFrame(width, height, "yuv420p")
        for attribute, value in colours.items():
            setattr(frame, attribute, value)
        for plane, level in zip(frame.planes, yuv, strict=True):
            plane.update(bytes([level]) * plane.buffer_size)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("matrix", SYMMETRIES)
def test_every_rotation_and_mirroring(tmp_path, matrix):
    image = np.full((48, 64, 3), 40, np.uint8)
    image[:8], image[:, :8] = (30, 220, 30), (30, 30, 220)
    path = encode_video(tmp_path / "clip.mp4", np.stack([image] * 2), matrix=matrix, options={"crf": "5"})
    for picture in both(path):
        assert np.abs(picture.astype(int) - displayed(image, matrix)).mean() < 6


def test_other_angles_are_rounded_to_quarter_turns(tmp_path):
    image = moving_disc(2, 48, 64)
    path = encode_video(tmp_path / "clip.mp4", image, matrix=(9, 3, -3, 9), options={"crf": "5"})
    assert np.abs(both(path)[0].astype(int) - image[0]).mean() < 6


@pytest.mark.parametrize("name", ["wide.mp4", "wide.mkv"])
@pytest.mark.parametrize(("aspect", "width"), [(Fraction(32, 27), 76), (Fraction(2), 128), (Fraction(8, 9), 57)])
def test_pixels_become_square(tmp_path, name, aspect, width):
    path = encode_video(tmp_path / name, moving_disc(2, 48, 64), pixel_aspect=aspect)
    assert [picture.shape for picture in both(path)] == [(48, width, 3)] * 3


@pytest.mark.parametrize("standard", ["601", "709", "2020"])
def test_the_stated_matrix_of_colours_is_used(tmp_path, standard):
    path = plain(tmp_path / "clip.mp4", RED[standard], colorspace=COLOUR_NUMBERS[standard], color_range=1)
    for picture in both(path):
        assert np.abs(picture[8, 8].astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize(("width", "height", "standard"), [(720, 576, "601"), (1280, 720, "709")])
def test_without_one_the_size_tells_it(tmp_path, width, height, standard):
    path = plain(tmp_path / "clip.mp4", RED[standard], width, height)
    assert np.abs(both(path)[0][8, 8].astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize(("color_range", "level"), [(1, 130), (2, 128)])
def test_limited_and_full_range(tmp_path, color_range, level):
    path = plain(tmp_path / "clip.mp4", (128, 128, 128), color_range=color_range)
    assert np.abs(both(path)[0].astype(int) - level).max() <= 1


def test_high_dynamic_range_is_reported(tmp_path, caplog):
    path = plain(tmp_path / "clip.mp4", (128, 128, 128), color_trc=16)
    with caplog.at_level(logging.WARNING):
        read_frames(path)
        read_frames(path)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} is a high-dynamic-range video (HDR), which will look pale; convert it to SDR first"
    ]


def two_streams(path: Path, *dispositions: Disposition) -> Path:
    """Write a black and a white video, the white one larger."""
    with av.open(str(path), "w") as container:
        is_cover = [disposition == Disposition.attached_pic for disposition in dispositions]
        streams = [container.add_stream("mjpeg" if cover else "mpeg4", rate=25) for cover in is_cover]
        for index, (stream, disposition) in enumerate(zip(streams, dispositions, strict=True)):
            stream.width = stream.height = 32 + 32 * index
            stream.pix_fmt, stream.disposition = "yuvj420p" if is_cover[index] else "yuv420p", disposition
        for index, stream in enumerate(streams):
            pixels = np.full((32 + 32 * index, 32 + 32 * index, 3), 255 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("dispositions", "size"),
    [
        ((Disposition(0), Disposition(0)), 64),
        ((Disposition.default, Disposition(0)), 32),
        ((Disposition(0), Disposition.attached_pic), 32),
    ],
)
def test_the_default_or_else_the_largest_stream_is_shown_and_never_cover_art(tmp_path, dispositions, size):
    name = "clip.mp4" if Disposition.attached_pic in dispositions else "clip.mkv"
    path = two_streams(tmp_path / name, *dispositions)
    assert both(path)[0].shape == (size, size, 3)


def test_music_with_cover_art_is_not_a_video(tmp_path):
    path = two_streams(tmp_path / "song.mp4", Disposition.attached_pic)
    with pytest.raises(UnusableMediaError, match="has no video stream") as caught:
        probe(path)
    assert caught.value.reason == "audio_only"
