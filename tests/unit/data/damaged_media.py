"""Damaged media files and archives, each a pure function of its number."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.unit.media.clips import moving_disc
from tests.unit.media.odd_videos import encode_sound, encode_video

VIDEOS = {
    "mp4": {},
    "front.mp4": {"container_options": {"movflags": "faststart"}},
    "pieces.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "mkv": {"codec": "mpeg4", "sound_s": 1.0},
    "webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "ts": {"codec": "mpeg4"},
    "mov": {"codec": "qtrle", "pix_fmt": "argb"},
    "ten.mp4": {"pix_fmt": "yuv420p10le"},
    "gif": {"codec": "gif", "pix_fmt": "rgb8"},
}
IMAGES = ("png", "jpg", "webp", "bmp", "tiff")


def whole_files(folder: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return small intact videos and images by suffix."""
    folder.mkdir(parents=True)
    frames = moving_disc(12, 32, 48)
    videos = {
        suffix: encode_video(folder / f"v.{suffix}", frames, **how).read_bytes()  # type: ignore[arg-type]
        for suffix, how in VIDEOS.items()
    }
    videos["sound.mp4"] = encode_sound(folder / "sound.mp4").read_bytes()
    images = {}
    for suffix in IMAGES:
        buffer = io.BytesIO()
        Image.fromarray(frames[0]).save(buffer, "JPEG" if suffix == "jpg" else suffix.upper())
        images[suffix] = buffer.getvalue()
    return videos, images


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat, overwrite or replace bytes, mostly in the headers, where damage does most harm."""
    content = bytearray(data)

    def somewhere() -> int:
        return rng.randrange(min(len(content), 400) if rng.random() < 0.5 else len(content))

    kind = rng.randrange(7)
    if kind == 0:
        return bytes(content[: somewhere()])
    if kind == 1:
        start = somewhere()
        return bytes(content[:start] + content[start + rng.randrange(1, 64) :])
    if kind == 2:
        start = somewhere()
        return bytes(content[:start] + content[start : start + 64] * rng.randrange(2, 9) + content[start:])
    if kind == 3:
        start = somewhere()
        content[start : start + 16] = rng.choice((b"\xff", b"\x00", b"\x7f")) * 16
    elif kind == 4:
        content = bytearray(rng.randbytes(rng.randrange(200)))
    else:
        for _ in range(rng.choice((1, 4, 30))):
            content[somewhere()] = rng.randrange(256)
    return bytes(content)


def write_damaged_folder(folder: Path, whole: dict[str, bytes], count: int, seed: int) -> list[str]:
    """Write `count` damaged files, each with a caption. Return their names."""
    folder.mkdir(parents=True)
    names = []
    for number in range(count):
        rng = random.Random(seed * 1_000_003 + number)
        suffix = sorted(whole)[number % len(whole)]
        stem = f"{number:04d}"
        name = f"{stem}.{suffix.rpartition('.')[2]}"
        (folder / name).write_bytes(damaged(whole[suffix], rng))
        (folder / f"{stem}.txt").write_text("a caption")
        names.append(name)
    return names


def write_damaged_archives(folder: Path, whole: dict[str, bytes], count: int, seed: int) -> None:
    """Write `count` tar archives with odd names and links, most of them damaged, and one that is intact."""
    folder.mkdir(parents=True)
    for number in range(count):
        rng = random.Random(seed * 1_000_003 + number)
        data = _archive(whole, rng)
        (folder / f"{number:04d}.tar").write_bytes(damaged(data, rng) if rng.random() < 0.8 else data)
    (folder / "whole.tar").write_bytes(_archive({"png": whole["png"]}, random.Random(0), odd=False))


def _archive(whole: dict[str, bytes], rng: random.Random, *, odd: bool = True) -> bytes:
    buffer = io.BytesIO()
    form = rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for number in range(rng.randrange(1, 4)):
            stem = rng.choice(("../../out", "/abs/olute", "a/b", "ü" * 120, "..", " ")) if odd else "good"
            suffix = rng.choice(sorted(whole))
            for name, content in ((f"{stem}{number}.{suffix}", whole[suffix]), (f"{stem}{number}.txt", b"a caption")):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            if odd:
                link = tarfile.TarInfo(f"{stem}{number}x.{suffix}")
                link.type, link.linkname = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE)), "/etc/hostname"
                archive.addfile(link)
    return buffer.getvalue()


def shown(pixels: np.ndarray) -> bool:
    """Return whether an array can be the pixels of a sample."""
    return pixels.min() >= -1 and pixels.max() <= 1 and not np.isnan(pixels).any()
