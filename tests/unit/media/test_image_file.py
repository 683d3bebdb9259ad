import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image, ImageCms

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


# The transposition that displays an image, by its EXIF orientation.
ORIENTATIONS = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: image.transpose(1, 0, 2)[:, ::-1],
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: image.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".webp"])
@pytest.mark.parametrize("min_side", [None, 10])
def test_every_orientation_that_cameras_store(tmp_path, orientation, suffix, min_side):
    image = corner_marked()
    image[-6:, -6:] = (200, 30, 30)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(image).save(path, exif=exif, quality=95)
    expected = ORIENTATIONS[orientation](image if min_side is None else image[::2, ::2])
    shown = read_image(path, min_side=min_side)
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 12


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


def profile(red: tuple[float, float], gamma: float, *, space: bytes = b"RGB ") -> bytes:
    """Return an ICC profile: sRGB but for the place of red (x, y) and the gamma; or one for grey images."""
    points = np.array([(*xy, 1 - sum(xy)) for xy in (red, (0.3, 0.6), (0.15, 0.06))]).T
    white = np.array([0.9642, 1.0, 0.8249])  # D50, to which profiles refer
    d65 = np.array([0.9505, 1.0, 1.089])
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    adapt = np.linalg.inv(bradford) @ np.diag(bradford @ white / (bradford @ d65)) @ bradford
    primaries = adapt @ (points * np.linalg.solve(points, d65))

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(79)
    tags = {
        b"desc": text,
        b"cprt": b"text" + bytes(4) + b"none\0" + bytes(3),
        b"wtpt": b"XYZ " + bytes(4) + fixed(*white),
    }
    if space == b"RGB ":
        for index, name in enumerate((b"r", b"g", b"b")):
            tags[name + b"XYZ"] = b"XYZ " + bytes(4) + fixed(*primaries[:, index])
            tags[name + b"TRC"] = curve
    else:
        tags[b"kTRC"] = curve
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    header = struct.pack(">I4sI4s4s4s", 0, bytes(4), 0x02100000, b"mntr", space, b"XYZ ") + bytes(12) + b"acsp"
    header = (header + bytes(68 - len(header)) + fixed(*white)).ljust(128, b"\0")
    whole = header + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_become_eight(tmp_path, suffix):
    levels = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / f"image{suffix}")
    assert read_image(tmp_path / f"image{suffix}")[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", ".png"), ("RGB", ".jpg"), ("RGBA", ".png"), ("P", ".png"), ("L", ".png"), ("RGB", ".tiff")],
)
def test_colours_are_converted_by_the_profile_of_the_file(tmp_path, mode, suffix):
    """Linear light: 128 of 255 is half the light, which sRGB stores as 188."""
    path = tmp_path / f"image{suffix}"
    image = Image.new("RGB", (16, 16), (128, 128, 128))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(path, icc_profile=profile((0.64, 0.33), 1.0), quality=100)
    assert np.abs(read_image(path).astype(int) - 188).max() <= 2


def test_wide_colours_are_brought_into_srgb(tmp_path):
    """Pure red of a narrower space is a paler red."""
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "a.png", icc_profile=profile((0.58, 0.35), 2.2))
    red, green, blue = read_image(tmp_path / "a.png")[0, 0]
    assert red > 240
    assert 60 < green < 140
    assert blue < 60


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_is_converted_by_its_profile(tmp_path, bits):
    levels = np.full((4, 4), 128) if bits == 8 else np.full((4, 4), 128 * 257)
    grey = Image.fromarray(levels.astype(np.uint8 if bits == 8 else np.uint16))
    grey.save(tmp_path / "a.png", icc_profile=profile((0.64, 0.33), 1.0, space=b"GRAY"))
    assert np.abs(read_image(tmp_path / "a.png").astype(int) - 188).max() <= 1


def test_sixteen_bit_colours_are_converted_by_their_profile(tmp_path):
    pixels = b"".join(b"\0" + struct.pack(">3H", *[128 * 257] * 3) * 4 for _ in range(4))
    icc = b"a\0\0" + zlib.compress(profile((0.64, 0.33), 1.0))
    (tmp_path / "a.png").write_bytes(png_of_size(4, 4, 16, pixels, iCCP=icc))
    assert np.abs(read_image(tmp_path / "a.png").astype(int) - 188).max() <= 1


def test_lab_becomes_srgb(tmp_path):
    Image.new("LAB", (4, 4), (138, 128, 128)).save(tmp_path / "a.tiff")  # L* 54 of 100 is middle grey
    grey = read_image(tmp_path / "a.tiff")[0, 0].astype(int)
    assert np.abs(grey - 129).max() <= 2


def test_srgb_itself_changes_no_pixel(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(noise).save(tmp_path / "a.png", icc_profile=srgb)
    assert (read_image(tmp_path / "a.png") == noise).all()


@pytest.mark.parametrize(
    "content", [b"broken", profile((0.64, 0.33), 1.0)[:200], profile((0.64, 0.33), 1.0, space=b"CMYK"), bytes(400)]
)
def test_an_unusable_profile_is_ignored_and_reported(tmp_path, caplog, content):
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4), (10, 20, 30)).save(path, icc_profile=content)
    assert (read_image(path) == (10, 20, 30)).all()
    assert f"{path} has an unusable colour profile" in caplog.text


def test_the_gamma_of_a_png_is_applied_unless_it_is_srgb(tmp_path):
    pixels = b"".join(b"\0" + bytes([128] * 12) for _ in range(4))
    linear, usual = struct.pack(">I", 100000), struct.pack(">I", 45455)
    for name, level, chunks in (
        ("a", 186, {"gAMA": linear}),
        ("b", 128, {"gAMA": usual}),
        ("c", 128, {"gAMA": linear, "sRGB": b"\0"}),
    ):
        (tmp_path / name).write_bytes(png_of_size(4, 4, 8, pixels, **chunks))
        assert (read_image(tmp_path / name) == level).all(), name


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "image.tiff")
    with pytest.raises(MediaError, match="floating-point"):
        read_image(tmp_path / "image.tiff")


def test_the_first_frame_of_an_animation_is_taken(tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "image.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "image.gif")[0, 0].tolist() == [255, 0, 0]


def png_of_size(width: int, height: int, bits: int = 8, pixels: bytes = b"", **chunks: bytes) -> bytes:
    """Return an RGB PNG of these pixel rows and further chunks; or without pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    content = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))
    content += b"".join(chunk(kind.encode(), data) for kind, data in chunks.items())
    content += chunk(b"IDAT", zlib.compress(pixels) if pixels else b"")
    return b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_large_image_is_shrunk_by_a_whole_factor_on_request(tmp_path, suffix):
    y, x = np.mgrid[:300, :450]
    image = np.stack([x * 255 // 450, y * 255 // 300, (x + y) // 3 % 256], axis=-1).astype(np.uint8)
    path = tmp_path / f"image{suffix}"
    Image.fromarray(image).save(path, quality=95)
    shrunk = read_image(path, min_side=100)
    height, width = shrunk.shape[:2]
    factor = 2 if suffix == ".jpg" else 3  # a JPEG is decoded at half its size, which is enough
    assert (height, width) == (300 // factor, 450 // factor)
    boxes = image[: height * factor, : width * factor].reshape(height, factor, width, factor, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - boxes).mean() < 2
    for enough in (151, 300, 1000):
        assert (read_image(path, min_side=enough) == read_image(path)).all()


def test_the_first_picture_of_several_in_one_photo(tmp_path):
    pictures = [Image.new("RGB", (8, 8), color) for color in ("white", "black")]
    pictures[0].save(tmp_path / "photo.jpg", format="MPO", save_all=True, append_images=pictures[1:])
    assert read_image(tmp_path / "photo.jpg").min() > 250


def test_a_heic_photo_is_named(tmp_path):
    (tmp_path / "IMG_0001.HEIC").write_bytes(b"\0\0\0\x24ftypheic" + bytes(50))
    with pytest.raises(MediaError, match=r"IMG_0001\.HEIC is a HEIC photo, .* export it as JPEG or PNG"):
        read_image(tmp_path / "IMG_0001.HEIC")


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


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), int), np.zeros((0, 4, 3), np.uint8)]
)
def test_an_image_of_another_shape_or_type_is_refused(tmp_path, image):
    with pytest.raises(ValueError, match=r"expected non-empty \[H, W, 3\]|pixels are int64; expected uint8"):
        write_image(tmp_path / "image.png", image)
