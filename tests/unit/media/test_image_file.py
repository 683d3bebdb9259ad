import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from videocrafter.media.errors import MediaError, OutputExistsError
from videocrafter.media.image_file import read_image, write_image

IMAGES = npst.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)))


def corner_marked(height: int = 20, width: int = 30) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = 255  # top left
    return image


@given(image=IMAGES)
def test_a_png_comes_back_exactly(tmp_path_factory, image):
    path = tmp_path_factory.mktemp("images") / "image.png"
    write_image(path, image, {"Comment": "größe ☃"})
    assert np.array_equal(read_image(path), image)
    with Image.open(path) as opened:
        assert opened.text["Comment"] == "größe ☃"


def test_the_rotation_that_cameras_store_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to display it upright
    Image.fromarray(corner_marked()).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    upright = read_image(tmp_path / "photo.jpg")
    assert upright.shape == (30, 20, 3)
    assert upright[:13, 12:].min() > 200  # top right
    assert upright[17:].max() < 50


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(tmp_path, mode):
    if mode == "P":
        image = Image.new("P", (4, 4), 0)
        image.putpalette([10, 20, 30, 200, 200, 200])
        image.save(tmp_path / "image.png", transparency=0)
    else:
        Image.new(mode, (4, 4), (0,) * len(mode)).save(tmp_path / "image.png")
    assert read_image(tmp_path / "image.png").min() == 255


def test_half_transparency_is_half_white(tmp_path):
    Image.new("RGBA", (2, 2), (255, 0, 0, 128)).save(tmp_path / "image.png")
    assert np.abs(read_image(tmp_path / "image.png")[0, 0].astype(int) - [255, 127, 127]).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(tmp_path, mode):
    # Pillow 12 cannot read the TIFF that it writes in this mode.
    path = tmp_path / ("image.jpg" if mode == "YCbCr" else "image.tiff")
    Image.fromarray(corner_marked()).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (20, 30, 3)
    assert image[0, 0].min() > 250
    assert image[-1, -1].max() < 5


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_become_eight(tmp_path, suffix):
    levels = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / f"image{suffix}")
    assert read_image(tmp_path / f"image{suffix}")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "image.tiff")
    with pytest.raises(MediaError, match="floating-point"):
        read_image(tmp_path / "image.tiff")


def test_the_first_frame_of_an_animation_is_taken(tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "image.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "image.gif")[0, 0].tolist() == [255, 0, 0]


def png_of_size(width: int, height: int) -> bytes:
    """Return a PNG whose header states a size, without pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(12_000, 12_000), (60_000, 60_000)])
@pytest.mark.filterwarnings("error")
def test_a_huge_image_is_refused_before_it_is_unpacked(tmp_path, size):
    (tmp_path / "bomb.png").write_bytes(png_of_size(*size))
    with pytest.raises(MediaError, match=r"bomb\.png has .* pixels; at most 125 million are allowed"):
        read_image(tmp_path / "bomb.png")


def test_the_limit_can_be_set(tmp_path):
    write_image(tmp_path / "image.png", corner_marked())
    assert read_image(tmp_path / "image.png", max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(MediaError, match="30x20 pixels"):
        read_image(tmp_path / "image.png", max_pixels=599)


@given(
    cut=st.floats(0, 0.98),
    suffix=st.sampled_from([".png", ".jpg", ".webp", ".gif", ".tiff"]),
    flip=st.integers(0, 2**16),
)
def test_damaged_files_never_raise_anything_but_a_clear_error(tmp_path_factory, cut, suffix, flip):
    path = tmp_path_factory.mktemp("damaged") / f"image{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    data = bytearray(path.read_bytes())
    data[flip % len(data)] ^= 0xFF
    path.write_bytes(data[: int(len(data) * (1 - cut / 50))] if flip % 2 else data[: int(len(data) * cut)])
    message = f"{path.name} one line"
    try:
        read_image(path)
    except MediaError as error:
        message = str(error)
    assert path.name in message
    assert "\n" not in message


def test_a_truncated_image_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    write_image(tmp_path / "whole.png", noise)
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:6000])
    with pytest.raises(MediaError, match=r"cut\.png cannot be decoded .* truncated"):
        read_image(tmp_path / "cut.png")


def test_missing_and_foreign_files_are_named(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    for name in ("missing.png", "text.png", "."):
        with pytest.raises(MediaError, match=r"pass the path|use a PNG"):
            read_image(tmp_path / name)


def test_a_drawing_called_a_png_starts_no_other_program(tmp_path):
    path = tmp_path / "drawing.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(MediaError, match=r"is a vector drawing \(EPS\)"):
        read_image(path)


def test_an_existing_image_is_kept_unless_allowed(tmp_path):
    path = tmp_path / "image.png"
    write_image(path, corner_marked())
    with pytest.raises(OutputExistsError):
        write_image(path, corner_marked()[:10])
    assert read_image(path).shape == (20, 30, 3)
    write_image(path, corner_marked()[:10], overwrite=True)
    assert read_image(path).shape == (10, 30, 3)


def test_only_png_is_written(tmp_path):
    with pytest.raises(MediaError, match=r"end in \.png"):
        write_image(tmp_path / "image.jpg", corner_marked())


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_an_image_of_another_shape_or_type_is_refused(tmp_path, image):
    with pytest.raises(ValueError, match=r"expected non-empty uint8 \[H, W, 3\]"):
        write_image(tmp_path / "image.png", image)
