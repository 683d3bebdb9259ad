"""Clips in files: captions from text and JSON, parts of videos, images as one-frame videos."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.media.clips import numbered, numbers_in
from tests.unit.media.odd_videos import encode_sound, encode_video
from videocrafter.data.clip import BrokenClip, DecodingLimits
from videocrafter.data.clip_table import ClipRow, ClipTable
from videocrafter.data.errors import BadSampleError, SourceError
from videocrafter.data.locations import Location
from videocrafter.data.media_clip import CaptionFile, MediaClip, tidy_caption
from videocrafter.media.framing import Framing

LIMITS = DecodingLimits(time_limit_s=30.0)


def clip(path: Path, kind: str = "video", **changes) -> MediaClip:
    values = {"key": path.name, "kind": kind, "media": Location(url=str(path)), "caption": "a caption"}
    return MediaClip(**{**values, **changes})


def reason(broken: MediaClip | BrokenClip, limits: DecodingLimits = LIMITS) -> str:
    with pytest.raises(BadSampleError) as caught, broken.open(limits) as video:
        video.frames_at([0.0])
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_a_video_has_a_caption_a_rate_and_frames(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "a.mp4", numbered(20, 64), 10)
    with pickle.loads(pickle.dumps(clip(path))).open(LIMITS) as video:
        assert (video.caption, video.fps, video.num_frames) == ("a caption", 10.0, 20)
        frames = video.frames_at([0.55, 1.95], lambda height, width: Framing(height=32, width=32))
        assert numbers_in(frames) == [5, 19]


def test_a_part_of_a_video_is_a_video_of_its_own(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "a.mp4", numbered(40), 10)
    with clip(path, start_s=1.0, end_s=2.5).open(LIMITS) as video:
        assert video.num_frames == 15
        assert numbers_in(video.frames_at([0.05, 1.45])) == [10, 24]
    with clip(path, start_s=3.0, end_s=99.0).open(LIMITS) as video:
        assert video.num_frames == 10
    with clip(path, start_s=50.0).open(LIMITS) as video:
        assert video.num_frames == 0


def test_a_part_of_an_archive_reads_like_a_file(tmp_path: Path) -> None:
    data = encode_video(tmp_path / "a.mp4", numbered(20), 10).read_bytes()
    (tmp_path / "a.bin").write_bytes(b"before" + data + b"after")
    place = Location(url=str(tmp_path / "a.bin"), offset=6, size=len(data), member="a.mp4")
    with clip(tmp_path / "a.mp4", media=place).open(LIMITS) as video:
        assert numbers_in(video.frames_at([0.35, 1.25])) == [3, 12]


def test_an_image_is_a_video_of_one_frame(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 4), np.uint8)
    pixels[:20] = (10, 20, 30, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for media in (
        Location(url=str(tmp_path / "a.png")),
        Location(url=str(tmp_path / "a.png"), size=(tmp_path / "a.png").stat().st_size),
    ):
        with clip(tmp_path / "a.png", "image", media=media).open(LIMITS) as image:
            assert (image.fps, image.num_frames) == (1.0, 1)
            picture = image.frames_at([0.5], lambda height, width: Framing(height=20, width=30))
        assert picture.shape == (1, 20, 30, 3)
        assert picture[0, 2, 2].tolist() == [10, 20, 30]
        assert picture[0, 18, 2].tolist() == [255, 255, 255]


def test_captions_come_from_text_or_from_a_field(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeff a cat \n\n on a\tmat ".encode())
    (tmp_path / "a.json").write_text(json.dumps({"top_caption": " a dog ", "number": 3, "list": ["x"], "none": None}))
    (tmp_path / "b.json").write_text("{")
    (tmp_path / "c.json").write_text("[1]")
    text = Location(url=str(tmp_path / "a.txt"))
    assert CaptionFile(location=text).read() == "a cat on a mat"
    fields = {
        name: CaptionFile(location=Location(url=str(tmp_path / "a.json")), field=name)
        for name in ("top_caption", "number", "list", "none", "missing")
    }
    assert {name: field.read() for name, field in fields.items()} == {
        "top_caption": "a dog",
        "number": "",
        "list": "",
        "none": "",
        "missing": "",
    }
    assert CaptionFile(location=Location(url=str(tmp_path / "c.json")), field="a").read() == ""
    broken = CaptionFile(location=Location(url=str(tmp_path / "b.json")), field="a")
    with pytest.raises(BadSampleError, match=r"b\.json, line 1 is not valid JSON"):
        broken.read()
    assert "is not valid JSON" in str(broken.problem())
    assert "has an empty caption" in str(fields["missing"].problem())
    assert CaptionFile(location=text).problem() is None
    assert tidy_caption(3.5) == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.txt", "café".encode("latin-1"), "c.txt, line 1: byte 0xE9 is not valid UTF-8"),
        ("c.txt", "a cat".encode("utf-16-le"), "c.txt, line 1 contains a NUL character"),
        ("c.json", b'{"a": "half \\ud83d of a smile"}', "half of a surrogate pair"),
        ("c.json", b'{"a": "zero \\u0000"}', "c.json contains a NUL character"),
        ("c.json", b'{"a": "\xe9"}', "c.json, line 1: byte 0xE9"),
        ("c.json", b'{"a": "one", "a": "two"}', "has the key 'a' twice"),
    ],
)
def test_a_caption_that_is_not_text_is_bad(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    caption = CaptionFile(location=Location(url=str(tmp_path / name)), field="a" if name == "c.json" else None)
    with pytest.raises(BadSampleError, match=message) as caught:
        caption.read()
    assert caught.value.reason == "bad_caption"
    assert reason(clip(tmp_path / "a.mp4", caption=caption)) == "bad_caption"
    assert reason(clip(tmp_path / "a.mp4", caption="a\0b")) == "bad_caption"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_caption_may_have_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "c.txt").write_bytes("un café\n".encode(encoding))
    assert CaptionFile(location=Location(url=str(tmp_path / "c.txt"))).read() == "un café"


def test_reasons_of_bad_files(tmp_path: Path) -> None:
    video = encode_video(tmp_path / "a.mp4")
    Image.new("RGB", (900, 100)).save(tmp_path / "strip.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    small = DecodingLimits(max_pixels=1000)
    assert reason(clip(tmp_path / "no.mp4")) == "missing"
    assert reason(clip(tmp_path / "no.png", "image")) == "missing"
    assert reason(clip(tmp_path / f"{'n' * 5000}.mp4")) == "unreadable"
    assert reason(clip(tmp_path / f"{'n' * 5000}.png", "image")) == "unreadable"
    assert reason(clip(encode_sound(tmp_path / "a.m4a"))) == "audio_only"
    assert reason(clip(tmp_path / "a.png")) in ("unreadable", "no_rate")
    assert reason(clip(video, "image")) == "unreadable"
    assert reason(clip(tmp_path / "cut.png", "image")) == "unreadable"
    assert reason(clip(tmp_path / "strip.png", "image")) == "absurd_size"
    assert reason(clip(video), small) == "absurd_size"
    assert reason(clip(tmp_path / "a.png", "image"), small) == "absurd_size"
    assert reason(clip(video, caption=CaptionFile(location=Location(url=str(tmp_path / "no.txt"))))) == "missing"
    assert reason(clip(video, media=Location(url=str(video), offset=5, size=10**9))) == "truncated"
    assert reason(BrokenClip(key="x", reason="outside_folder", message="no")) == "outside_folder"


def place(path: str) -> str:
    if ".." in path:
        raise BadSampleError("outside_folder", path)
    return f"/videos/{path}"


def test_a_table_preserves_its_rows() -> None:
    rows = [
        ClipRow("a", "a.mp4", "ä “caption”"),
        ClipRow("b", "b.mp4", "", "b.txt"),
        ClipRow("c", "c.mp4", "part", start_s=1.5, end_s=2.25),
        ClipRow("d", "../d.mp4", "outside"),
        ClipRow("odd \udcff", "e.mp4", "lone \ud800 surrogate"),
    ]
    table = ClipTable(label="t", kind="video", clips=iter(rows), place=place, captions_from="")
    assert table.num_shards == 5
    clips = [table.read_shard(index).clips[0] for index in range(5)]
    assert clips[0] == MediaClip(key="a", kind="video", media=Location(url="/videos/a.mp4"), caption="ä “caption”")
    assert clips[1].caption == CaptionFile(location=Location(url="/videos/b.txt"))  # type: ignore[union-attr]
    assert (clips[2].start_s, clips[2].end_s) == (1.5, 2.25)  # type: ignore[union-attr]
    assert isinstance(clips[3], BrokenClip)
    assert clips[3].reason == "outside_folder"
    with pytest.raises(IndexError):
        table[5]


def test_a_table_without_clips_or_captions_is_an_error() -> None:
    with pytest.raises(SourceError, match="t contains no clips"):
        ClipTable(label="t", kind="video", clips=[], place=place, captions_from="")
    rows = [ClipRow("a", "a.mp4"), ClipRow("b", "b.mp4")]
    with pytest.raises(SourceError, match="column 'name' is empty for all 2 clips"):
        ClipTable(label="t", kind="video", clips=rows, place=place, captions_from="column 'name'")
