"""Media files for stress tests: intact, odd and damaged ones, and files of other types with a media suffix.

Each file has an expected fate: `whole` files must be loaded, `bad` ones must be skipped and reported. For damaged
ones (`either`), one of the two must happen.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from tests.unit.data.damaged_media import damaged, whole_files
from tests.unit.media.clips import moving_disc
from tests.unit.media.odd_videos import encode_sound, encode_video

Fate = Literal["whole", "bad", "either"]


class OddFile(NamedTuple):
    """A media file: description, suffix, contents and expected fate."""

    what: str
    suffix: str
    content: bytes
    fate: Fate


def odd_videos(folder: Path) -> Iterator[OddFile]:
    """Yield one video of each kind, without damaged ones.

    Args:
        folder: empty folder to encode in.
    """
    videos, _ = whole_files(folder / "whole")
    for suffix, content in videos.items():
        if suffix != "sound.mp4":
            yield OddFile("whole", f".{suffix.rpartition('.')[2]}", content, "whole")
    frames = moving_disc(12, 32, 48)
    alpha = np.concatenate([frames, frames[..., :1]], axis=-1)
    ticks = [0, 125, 250, 260, 600, 700, 1000, 1125, 1250, 1375, 1900, 2000]
    ways: dict[str, tuple[np.ndarray, str, dict[str, Any]]] = {
        "variable rate": (frames, "mp4", {"ticks": ticks}),
        "variable rate, mkv": (frames, "mkv", {"ticks": ticks}),
        "turned": (frames, "mp4", {"rotation": 90}),
        "turned upside down": (frames, "mp4", {"rotation": 180}),
        "turned back": (frames, "mp4", {"rotation": 270}),
        "alpha": (alpha, "mov", {"codec": "qtrle", "pix_fmt": "argb"}),
        "alpha, webm": (alpha, "webm", {"codec": "libvpx-vp9", "pix_fmt": "yuva420p", "options": {"cpu-used": "8"}}),
        "grey": (frames, "mp4", {"pix_fmt": "gray"}),
        "grey, mkv": (frames, "mkv", {"codec": "ffv1", "pix_fmt": "gray"}),
        "10 bits": (frames, "mp4", {"pix_fmt": "yuv420p10le"}),
        "16 bits": (frames, "mkv", {"codec": "ffv1", "pix_fmt": "yuv444p16le"}),
        "odd size": (moving_disc(12, 33, 47), "mp4", {"pix_fmt": "yuv444p"}),
        "tiny": (moving_disc(12, 16, 16), "mp4", {}),
        "wide pixels": (frames, "mp4", {"pixel_aspect": Fraction(2)}),
        "with sound": (frames, "mp4", {"sound_s": 1.0}),
        "longer sound": (frames, "mkv", {"codec": "mpeg4", "sound_s": 9.0}),
        "one keyframe": (frames, "mp4", {"keyframe_every": 999}),
        "slow": (frames, "mp4", {"fps": 1}),
        "fast": (frames, "mp4", {"fps": 240}),
    }
    for number, (what, (pictures, suffix, how)) in enumerate(ways.items()):
        path = encode_video(folder / f"{number}.{suffix}", pictures, **how)
        yield OddFile(what, f".{suffix}", path.read_bytes(), "whole")
    still = encode_video(folder / "still.mp4", frames[:1]).read_bytes()
    yield OddFile("one frame", ".mp4", still, "bad")
    for suffix in ("mp4", "mkv"):
        yield OddFile("sound only", f".{suffix}", encode_sound(folder / f"sound.{suffix}").read_bytes(), "bad")
    strip = encode_video(folder / "strip.mp4", moving_disc(12, 16, 640)).read_bytes()
    yield OddFile("a strip", ".mp4", strip, "bad")
    yield OddFile("another ending", ".avi", videos["mp4"], "whole")
    yield OddFile("another ending", ".mp4", videos["webm"], "whole")
    yield from _foreign(".mp4")
    yield from _foreign(".webm")
    for content in _absurd_videos(videos):
        yield OddFile("absurd size in the header", ".mp4", content, "either")


def odd_images(folder: Path) -> Iterator[OddFile]:
    """Yield one image of each kind, without damaged ones.

    Args:
        folder: empty folder to work in.
    """
    _, images = whole_files(folder / "whole")
    for suffix, content in images.items():
        yield OddFile("whole", f".{suffix}", content, "whole")
    pixels = moving_disc(4, 32, 48)
    plain = Image.fromarray(pixels[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    yield OddFile("turned", ".jpg", _saved(plain, "JPEG", exif=exif), "whole")
    yield OddFile("progressive", ".jpg", _saved(plain, "JPEG", progressive=True), "whole")
    yield OddFile("four inks", ".jpg", _saved(plain.convert("CMYK"), "JPEG"), "whole")
    for mode, suffix in (("L", "jpg"), ("L", "png"), ("LA", "png"), ("1", "png"), ("P", "png"), ("RGBA", "webp")):
        form = {"jpg": "JPEG"}.get(suffix, suffix.upper())
        yield OddFile(f"mode {mode}", f".{suffix}", _saved(plain.convert(mode), form), "whole")
    deep = Image.fromarray(pixels[0, ..., 0].astype(np.uint16) * 257)
    yield OddFile("16 bits", ".png", _saved(deep, "PNG"), "whole")
    yield OddFile("16 bits", ".tiff", _saved(deep, "TIFF"), "whole")
    yield OddFile("floating point", ".tiff", _saved(plain.convert("F"), "TIFF"), "bad")
    later = [Image.fromarray(frame) for frame in pixels[1:]]
    for form in ("PNG", "WEBP"):
        moving = _saved(plain, form, save_all=True, append_images=later)
        yield OddFile("moving", f".{form.lower()}", moving, "whole")
    yield OddFile("one pixel", ".png", _saved(plain.resize((1, 1)), "PNG"), "whole")
    yield OddFile("a strip", ".png", _saved(plain.resize((900, 2)), "PNG"), "bad")
    yield OddFile("another ending", ".jpg", images["png"], "whole")
    yield OddFile("another ending", ".png", images["jpg"], "whole")
    yield from _foreign(".jpg")
    yield from _foreign(".png")
    drawing = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    yield OddFile("a drawing", ".png", drawing, "bad")
    for suffix, content in _absurd_images(images):
        yield OddFile("absurd size in the header", suffix, content, "bad")
    yield OddFile("unpacks to gigabytes", ".png", _bomb(), "bad")


def damaged_files(whole: list[OddFile], seed: int) -> Iterator[OddFile]:
    """Yield endlessly: the intact files, damaged in every way in turn."""
    number = 0
    while True:
        for file in whole:
            rng = random.Random(f"{seed} {number}")
            what, change = _DAMAGE[number // len(whole) % len(_DAMAGE)]
            yield OddFile(what, file.suffix, change(file.content, rng), "either")
            number += 1


def _truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _bits_flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 10, 100))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _holes(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    length = min(rng.choice((1, 64, 4096)), len(content) - start)
    return content[:start] + bytes(length) + content[start + length :]


def _beginning_lost(content: bytes, rng: random.Random) -> bytes:
    return content[rng.randrange(1, len(content)) :]


def _swapped(content: bytes, rng: random.Random) -> bytes:
    middle = rng.randrange(len(content))
    return content[middle:] + content[:middle]


def _lengthened(content: bytes, rng: random.Random) -> bytes:
    return content + rng.randbytes(rng.randrange(1, 5000))


_DAMAGE = (
    ("truncated", _truncated),
    ("bits flipped", _bits_flipped),
    ("holes of zeros", _holes),
    ("headers damaged", damaged),
    ("beginning lost", _beginning_lost),
    ("halves swapped", _swapped),
    ("junk at the end", _lengthened),
)


def _foreign(suffix: str) -> Iterator[OddFile]:
    """Yield files that have a media suffix but are not media."""
    yield OddFile("empty", suffix, b"", "bad")
    yield OddFile("zeros", suffix, bytes(5000), "bad")
    yield OddFile("text", suffix, b"This is no such file.\n" * 40, "bad")
    yield OddFile("a web page", suffix, b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "bad")
    yield OddFile("a list of other files", suffix, b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n", "bad")
    yield OddFile("a list of other files", suffix, b"ffconcat version 1.0\nfile /etc/passwd\n", "bad")
    yield OddFile("noise", suffix, random.Random(0).randbytes(3000), "bad")


def _saved(image: Image.Image, form: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **how)
    return buffer.getvalue()


def _png(width: int, height: int, packed: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _bomb() -> bytes:
    """Return a small PNG whose header claims three gigabytes of pixels, with the first 8 MB of them."""
    return _png(32_000, 32_000, zlib.compress(bytes(8 << 20), 9))


def _absurd_images(images: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    yield ".png", _png(2**31 - 1, 2**31 - 1, zlib.compress(bytes(100)))
    yield ".png", _png(60_000, 60_000, zlib.compress(bytes(100)))
    picture = bytearray(images["jpg"])
    frame = picture.index(b"\xff\xc0") + 5
    picture[frame : frame + 4] = b"\xff\xff\xff\xff"
    yield ".jpg", bytes(picture)
    bitmap = bytearray(images["bmp"])
    bitmap[18:26] = struct.pack("<ii", 2**31 - 1, 2**31 - 1)
    yield ".bmp", bytes(bitmap)


def _absurd_videos(videos: dict[str, bytes]) -> Iterator[bytes]:
    entry = videos["mp4"].index(b"avc1") + 28
    for width, height in ((65535, 65535), (0, 0), (65535, 1)):
        video = bytearray(videos["mp4"])
        video[entry : entry + 4] = struct.pack(">HH", width, height)
        yield bytes(video)
    screen = bytearray(videos["gif"])
    screen[6:10] = b"\xff\xff\xff\xff"
    yield bytes(screen)
