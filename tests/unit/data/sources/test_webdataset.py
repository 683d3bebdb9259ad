"""Tar shards are read in place, damage and odd members are reported, and nothing is extracted."""

from __future__ import annotations

import io
import json
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.unit.data.odd_sources import header, tar
from tests.unit.media.odd_videos import encode_video
from videocrafter.data.clip import BrokenClip, DecodingLimits
from videocrafter.data.errors import BadSampleError, SourceError
from videocrafter.data.media_clip import MediaClip
from videocrafter.data.source import ClipSource
from videocrafter.data.sources.webdataset import WebDatasetConfig


def jpeg(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 24, 3), value, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def image_members(count: int, first: int = 0) -> list[tuple[str, bytes]]:
    """Return members as img2dataset writes them: an image, its alt text, and a record with other captions."""
    members = []
    for number in range(first, first + count):
        key = f"{number:09d}"
        record = {"url": "x", "caption": "alt", "top_caption": f"picture {number}", "status": "success"}
        members += [
            (f"{key}.jpg", jpeg(number)),
            (f"{key}.txt", b"alt text"),
            (f"{key}.json", json.dumps(record).encode()),
        ]
    return members


def clips_of(source: ClipSource, shard: int = 0) -> dict[str, tuple[str, int]]:
    """Return caption and grey value of each clip by the last part of its key; for a bad one, reason and -1."""
    found = {}
    for clip in source.read_shard(shard).clips:
        key = clip.key.rpartition("#")[2]
        try:
            with clip.open(DecodingLimits()) as video:
                found[key] = (video.caption, int(video.frames_at([0.5])[0, 0, 0, 0]))
        except BadSampleError as error:
            found[key] = (error.reason, -1)
    return found


def test_shards_of_img2dataset(tmp_path: Path) -> None:
    for shard in range(3):
        (tmp_path / f"{shard:05d}.tar").write_bytes(tar(image_members(2, 10 * shard)))
        (tmp_path / f"{shard:05d}_stats.json").write_text("{}")
    for path in (f"{tmp_path}/{{00000..00002}}.tar", f"{tmp_path}/*.tar", str(tmp_path)):
        source = WebDatasetConfig(path=path, caption="top_caption").open()
        assert (source.kind, source.num_shards, source.shards_together) == ("image", 3, 4)
        assert clips_of(source, 1) == {"000000010": ("picture 10", 10), "000000011": ("picture 11", 11)}
    assert clips_of(WebDatasetConfig(path=str(tmp_path)).open())["000000000"] == ("alt text", 0)


def test_shards_of_video2dataset(tmp_path: Path) -> None:
    video = encode_video(tmp_path / "v.mp4").read_bytes()
    members = [
        ("00000/0000000_00000.mp4", video),
        ("00000/0000000_00000.txt", b"first clip"),
        ("00000/0000000_00000.json", b"{}"),
        ("00000/0000000_00000.m4a", b"sound"),
        ("00000/0000000_00001.mp4", video),
        ("00000/0000000_00001.txt", b"second clip"),
        ("00000/0000001.txt", b"its download failed"),
        ("00000/0000002.mp4", video),
    ]
    (tmp_path / "00000.tar").write_bytes(tar(members))
    source = WebDatasetConfig(path=str(tmp_path / "00000.tar")).open()
    assert source.kind == "video"
    assert [(key, caption) for key, (caption, _) in clips_of(source).items()] == [
        ("00000/0000000_00000", "first clip"),
        ("00000/0000000_00001", "second clip"),
        ("00000/0000002", "no_caption"),
    ]


def test_remote_shards(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe({"/shards/00000.tar": tar(image_members(2))})
    source = WebDatasetConfig(path="memory://shards/*.tar").open()
    assert clips_of(source) == {"000000000": ("alt text", 0), "000000001": ("alt text", 1)}


def test_nothing_leaves_an_archive_and_links_are_named_but_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    link, hard, device, fifo = (tarfile.TarInfo(f"000000001.{suffix}") for suffix in ("jpg", "png", "webp", "txt"))
    link.type, link.linkname = tarfile.SYMTYPE, str(secret)
    hard.type, hard.linkname = tarfile.LNKTYPE, str(secret)
    device.type, fifo.type = tarfile.CHRTYPE, tarfile.FIFOTYPE
    members: list[tuple[str, bytes] | tarfile.TarInfo] = [
        ("../../escaped.jpg", jpeg(7)),
        ("../../escaped.txt", b"outside"),
        ("/absolute.jpg", jpeg(8)),
        ("/absolute.txt", b"absolute"),
        link,
        hard,
        device,
        fifo,
        *image_members(1, 5),
    ]
    folder = tmp_path / "shards" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.tar").write_bytes(tar(members))
    before = sorted(tmp_path.rglob("*"))
    source = WebDatasetConfig(path=str(folder)).open()
    found = clips_of(source)
    assert found == {
        "../../escaped": ("outside", 7),
        "/absolute": ("absolute", 8),
        "000000005": ("alt text", 5),
        "000000001.jpg": ("unreadable", -1),
        "000000001.png": ("unreadable", -1),
        "000000001.webp": ("unreadable", -1),
    }
    assert sorted(tmp_path.rglob("*")) == before
    whole = [clip for clip in source.read_shard(0).clips if isinstance(clip, MediaClip)]
    assert [clip.media.url for clip in whole] == [str(folder / "a.tar")] * 3


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_long_and_odd_names_in_every_form_of_tar(tmp_path: Path, form: int) -> None:
    long = "x" * 90 + "/" + "ü" * 20
    (tmp_path / "a.tar").write_bytes(tar([(f"{long}.jpg", jpeg(3)), (f"{long}.txt", b"long")], form))
    assert clips_of(WebDatasetConfig(path=str(tmp_path)).open()) == {long: ("long", 3)}


def test_a_truncated_shard_yields_the_samples_before_the_damage(tmp_path: Path) -> None:
    whole = tar(image_members(4))
    (tmp_path / "a.tar").write_bytes(whole)
    assert WebDatasetConfig(path=str(tmp_path)).open().read_shard(0).problem is None
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        sizes = {member.name: member.offset_data + member.size for member in archive}
    within = sizes["000000002.jpg"] - 10
    for size, count in ((len(whole) // 2, 2), (within, 3), (sizes["000000001.json"] // 512 * 512 + 512, 2)):
        (tmp_path / "a.tar").write_bytes(whole[:size])
        shard = WebDatasetConfig(path=str(tmp_path)).open().read_shard(0)
        assert "a.tar is damaged or truncated" in str(shard.problem)
        assert "\n" not in str(shard.problem)
        assert abs(len(shard.clips) - count) <= 1


def test_damage_within_a_shard_is_reported(tmp_path: Path) -> None:
    damaged = bytearray(tar(image_members(4)))
    header = damaged.index(b"000000002.jpg")
    damaged[header + 100 : header + 160] = b"\xff" * 60
    (tmp_path / "a.tar").write_bytes(damaged)
    source = WebDatasetConfig(path=str(tmp_path)).open()
    assert list(clips_of(source)) == ["000000000", "000000001"]
    assert "damaged or truncated" in str(source.read_shard(0).problem)


@pytest.mark.parametrize(
    "damage",
    [
        header("b.jpg", -512),  # points back to itself: an endless loop
        header("b.jpg", -1024),
        header("b.jpg", 1 << 80),
        *(
            header("b.jpg", size, kind)
            for size in (-512, 1 << 33, 1 << 50, 1 << 80)
            for kind in (b"x", b"g", b"L", b"K")
        ),
    ],
)
def test_a_header_of_any_size_costs_no_time_and_no_memory(tmp_path: Path, damage: bytes) -> None:
    start = tar([("a.jpg", jpeg(1)), ("a.txt", b"one")]).rstrip(b"\0")
    start += bytes(-len(start) % 512)
    (tmp_path / "a.tar").write_bytes(start + damage + bytes(1024))
    shard = WebDatasetConfig(path=str(tmp_path)).open().read_shard(0)
    assert [clip.key.rpartition("#")[2] for clip in shard.clips][:1] == ["a"]
    assert "a.tar is damaged or truncated" in str(shard.problem)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (bytes(10240), "is empty"),
        (tar(image_members(1)) + tar(image_members(1)), "damaged or truncated"),  # concatenated
        (tar(image_members(1)) + bytes(1 << 21), "damaged or truncated"),  # a hole at the end
    ],
)
def test_zeros_where_samples_should_be_are_reported(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "0.tar").write_bytes(tar(image_members(1)))
    (tmp_path / "1.tar").write_bytes(content)
    source = WebDatasetConfig(path=str(tmp_path)).open()
    assert source.read_shard(0).problem is None
    assert problem in str(source.read_shard(1).problem)


def test_a_name_that_comes_again_is_another_sample(tmp_path: Path) -> None:
    members = [("a.jpg", jpeg(1)), ("a.txt", b"one"), ("a.jpg", jpeg(2)), ("a.txt", b"two"), ("a.jpg", jpeg(3))]
    (tmp_path / "a.tar").write_bytes(tar(members))
    found = clips_of(WebDatasetConfig(path=str(tmp_path)).open())
    assert found == {"a": ("one", 1), "a (2)": ("two", 2), "a (3)": ("no_caption", -1)}


def shard_of(folder: Path, members: list[tuple[str, bytes] | tarfile.TarInfo], **options: Any) -> ClipSource:
    (folder / "a.tar").write_bytes(tar(members))
    return WebDatasetConfig(path=str(folder), **options).open()


def pair(stem: str, value: int, caption: str | None = None) -> list[tuple[str, bytes]]:
    return [(f"{stem}.jpg", jpeg(value)), *([] if caption is None else [(f"{stem}.txt", caption.encode())])]


def test_names_with_dots_are_samples_of_their_own(tmp_path: Path) -> None:
    members = [
        *pair("d/clip.v1", 1, "one"),
        *pair("d/clip.v2", 2, "two"),
        *pair("a.b.C", 3, "three"),
        *pair("frame_0.5", 4),
        ("alone.left.jpg", jpeg(5)),
        ("alone.txt", b"five"),
        *pair("clip", 6, "six"),
        *pair("clip.v1", 7, "seven"),
        ("x.1.jpg", jpeg(8)),
        ("x.1.png", jpeg(9)),
        ("x.1.txt", b"eight"),
        ("y.1.jpg", jpeg(1)),
        ("y.2.jpg", jpeg(1)),
        ("y.txt", b"of which one?"),
    ]
    source = shard_of(tmp_path, members)
    assert clips_of(source) == {
        "d/clip.v1": ("one", 1),
        "d/clip.v2": ("two", 2),
        "a.b.C": ("three", 3),
        "frame_0.5": ("no_caption", -1),
        "alone.left": ("five", 5),
        "clip": ("six", 6),
        "clip.v1": ("seven", 7),
        "x.1": ("eight", 8),
        "y.1": ("no_caption", -1),
        "y.2": ("no_caption", -1),
    }
    assert source.read_shard(0).ignored == {"further images of a sample": 1, "other members of a sample": 1}


def test_every_member_is_used_or_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tarfile.TarInfo("deep")
    folder.type = tarfile.DIRTYPE
    link = tarfile.TarInfo("2.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "1.txt"
    members: list[tuple[str, bytes] | tarfile.TarInfo] = [
        folder,
        *pair("deep/1", 1, "one"),
        ("deep/1.depth.jpg", jpeg(2)),
        ("deep/1.JSON", b"{}"),
        ("deep/._1.jpg", b"resource fork"),
        ("deep/2.JPG", jpeg(3)),
        link,
        ("3.mp4", b"a video"),
        ("4.txt", b"a failed download"),
        ("README", b"read me"),
    ]
    with caplog.at_level("INFO"):
        source = shard_of(tmp_path, members)
    shard = source.read_shard(0)
    assert clips_of(source) == {"deep/1": ("one", 1), "deep/2": ("no_caption", -1)}
    assert shard.ignored == {
        "folders": 1,
        "further images of a sample": 1,
        "hidden files": 1,
        "links and special files": 1,
        "members without an image": 2,
        "other members of a sample": 1,
        "videos": 1,
    }
    assert len(members) == sum(shard.ignored.values()) + 3
    assert "2 samples are used; ignored: 1 folders, 1 further images of a sample" in caplog.text


def test_names_that_differ_only_in_case_or_by_a_number_do_not_clash(tmp_path: Path) -> None:
    members = [*pair("a", 1, "one"), ("a.JPG", jpeg(2)), *pair("a (2)", 3, "three"), *pair("a", 4, "four")]
    read = []
    for clip in shard_of(tmp_path, members).read_shard(0).clips:
        with suppress(BadSampleError), clip.open(DecodingLimits()) as video:
            read.append((clip.key.rpartition("#")[2], video.caption, int(video.frames_at([0.5])[0, 0, 0, 0])))
    assert sorted(read) == [("a", "one", 1), ("a (2)", "four", 4), ("a (2)", "three", 3)]


def test_a_shard_without_samples_says_what_it_contains(tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_bytes(tar([("1.flac", b"x"), ("1.txt", b"x"), ("2.flac", b"x")]))
    shard = shard_of(tmp_path, pair("a", 1, "one")).read_shard(1)
    assert str(shard.problem).endswith("b.tar contains no image; it contains 2 .flac, 1 .txt, such as '1.flac'")


def test_a_compressed_archive_next_to_shards_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "b.tar.gz").write_bytes(b"")
    shard_of(tmp_path, pair("a", 1, "one"))
    assert "1 compressed archives are not used, such as" in caplog.text


def test_a_caption_in_another_encoding_is_a_bad_sample(tmp_path: Path) -> None:
    members = [
        *pair("1", 1, "one"),
        *pair("2", 2),
        ("2.txt", "café".encode("latin-1")),
        *pair("3", 3),
        ("3.txt", "café".encode("utf-16")),
    ]
    assert clips_of(shard_of(tmp_path, members)) == {"1": ("one", 1), "2": ("bad_caption", -1), "3": ("café", 3)}


def test_captions_are_looked_for_beyond_the_first_shard(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(tar([("1.jpg", jpeg(1))]))
    (tmp_path / "1.tar").write_bytes(tar(image_members(1)))
    assert WebDatasetConfig(path=str(tmp_path)).open().num_shards == 2


@given(position=st.floats(0, 1), value=st.integers(0, 255), cut=st.floats(0.1, 1))
def test_no_damage_is_too_odd(
    tmp_path_factory: pytest.TempPathFactory, position: float, value: int, cut: float
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    damaged = bytearray(tar(image_members(3)))
    damaged[int(position * (len(damaged) - 1))] = value
    (folder / "a.tar").write_bytes(damaged[: int(cut * len(damaged))])
    (folder / "b.tar").write_bytes(tar(image_members(1, 50)))
    try:
        source = WebDatasetConfig(path=str(folder)).open()
    except SourceError as error:
        message = str(error)
        assert "\n" not in message
        return
    assert set(clips_of(source, 1)) == {"000000050"}
    clips_of(source, 0)


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, {}, "contains no .tar file, expected uncompressed .tar shards"),
        ({"a.tar.gz": b""}, {}, "contains no .tar file, .*; decompress compressed ones"),
        ({"a.tar": b""}, {}, "no shard contains readable videos or images"),
        ({"a.tar": b"PK\x03\x04 a zip"}, {}, "no shard contains readable videos or images; .*a.tar is damaged"),
        (
            {"a.tar": tar([("readme.txt", b"x")])},
            {},
            "videos or images; .*a.tar contains 1 .txt, such as 'readme.txt'",
        ),
        (
            {"a.tar": tar(image_members(2))},
            {"kind": "video"},
            "no shard contains a readable video; .*a.tar contains no video; it contains 2 .jpg, 2 .txt, 2 .json",
        ),
        (
            {"a.tar": tar(image_members(2))},
            {"caption": "captoin"},
            "field 'captoin' of the .json members is missing",
        ),
        (
            {"a.tar": tar([("1.jpg", jpeg(0)), ("1.txt", b" ")])},
            {},
            "the .txt member is missing, empty or unreadable for all of the first 1 .*1.txt has an empty caption",
        ),
    ],
)
def test_shards_that_cannot_be_used_say_why(
    tmp_path: Path, files: dict[str, bytes], options: dict[str, str], message: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        WebDatasetConfig(path=str(tmp_path), **options).open()  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_compressed_shards_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(image_members(1), mode="w:gz"))
    with pytest.raises(SourceError, match=r"no shard contains .*a\.tar is compressed with gzip; decompress it"):
        WebDatasetConfig(path=str(tmp_path)).open()
    with pytest.raises(SourceError, match=r"matches .*a\.tgz, expected"):
        WebDatasetConfig(path=f"{tmp_path}/{{a.tar,a.tgz}}").open()


def test_a_shard_that_vanished_is_a_problem_not_an_end(tmp_path: Path) -> None:
    for shard in range(2):
        (tmp_path / f"{shard}.tar").write_bytes(tar(image_members(1, shard)))
    source = WebDatasetConfig(path=str(tmp_path)).open()
    (tmp_path / "1.tar").unlink()
    shard = source.read_shard(1)
    assert (list(shard.clips), "does not exist" in str(shard.problem)) == ([], True)


def test_a_sample_without_its_caption_file_is_bad(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar([*image_members(1), ("9.jpg", jpeg(9)), ("9.txt", b"x")]))
    clips = WebDatasetConfig(path=str(tmp_path), caption="top_caption").open().read_shard(0).clips
    assert isinstance(clips[1], BrokenClip)
    assert clips[1].reason == "no_caption"


def test_how_many_are_shuffled_together_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="shards_together is 0"):
        WebDatasetConfig(path="x", shards_together=0)
