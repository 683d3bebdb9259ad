"""Folders of pairs and folders with a metadata file."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests.unit.media.odd_videos import encode_video
from videocrafter.data.clip import DecodingLimits
from videocrafter.data.errors import BadSampleError, SourceError
from videocrafter.data.source import ClipSource
from videocrafter.data.sources.metadata_folder import MetadataFolderConfig
from videocrafter.data.sources.paired_folder import PairedFolderConfig


def captions(source: ClipSource) -> dict[str, str]:
    """Return the caption of each clip by its key; for a bad one, the reason in brackets."""
    found = {}
    for index in range(source.num_shards):
        (clip,) = source.read_shard(index).clips
        try:
            with clip.open(DecodingLimits()) as video:
                video.frames_at([0.0])
                found[clip.key] = video.caption
        except BadSampleError as error:
            found[clip.key] = f"[{error.reason}]"
    return found


def test_videos_with_text_files_of_the_same_name(tmp_path: Path) -> None:
    for name in ("a.mp4", "sub/b.webm", "c.mp4"):
        codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
        encode_video(tmp_path / name, codec=codec)
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "sub" / "b.txt").write_text("two")
    Image.new("RGB", (8, 8)).save(tmp_path / "cover.png")
    source = PairedFolderConfig(path=str(tmp_path)).open()
    assert source.kind == "video"
    assert captions(source) == {"a.mp4": "one", "sub/b.webm": "two", "c.mp4": ""}


def test_images_with_captions(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.PNG"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "a.caption").write_text("one")
    source = PairedFolderConfig(path=str(tmp_path), caption_suffix=".caption").open()
    assert source.kind == "image"
    assert captions(source) == {"a.jpg": "one", "b.PNG": ""}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow only Unicode names")
def test_names_that_are_no_utf8_are_read(tmp_path: Path) -> None:
    picture, video = tmp_path / "a.png", encode_video(tmp_path / "a.mp4")
    Image.new("RGB", (8, 8)).save(picture)
    for kind, whole in (("image", picture), ("video", video)):
        folder = tmp_path / kind
        folder.mkdir()
        for name, content in ((f"\udcff{whole.suffix}", whole.read_bytes()), ("\udcff.txt", b"one")):
            (folder / name).write_bytes(content)
        assert captions(PairedFolderConfig(path=str(folder)).open()) == {f"\udcff{whole.suffix}": "one"}


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, {}, "contains no videos or images"),
        ({"a.txt": "x"}, {}, "contains no videos or images"),
        ({"a.mp4": ""}, {}, "needs a .txt file with a caption for each video, but there is none"),
        ({"a.mp4": "", "a.txt": " \n"}, {}, "but all are empty"),
        ({"a.mp4": "", "a.txt": "x"}, {"kind": "image"}, "contains no images"),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(
    tmp_path: Path, files: dict[str, str], options: dict[str, str], message: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=message):
        PairedFolderConfig(path=str(tmp_path), **options).open()  # type: ignore[arg-type]


def test_a_suffix_begins_with_a_dot() -> None:
    with pytest.raises(ValueError, match=r"such as '\.txt'"):
        PairedFolderConfig(path="x", caption_suffix="txt")


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_a_folder_with_metadata(tmp_path: Path, name: str) -> None:
    encode_video(tmp_path / "data" / "a.mp4")
    rows = [
        {"file_name": "data/a.mp4", "text": "one"},
        {"file_name": "../../etc/passwd.mp4", "text": "two"},
        {"file_name": "data/missing.mp4", "text": "three"},
    ]
    if name.endswith("csv"):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, ["file_name", "text"])
            writer.writeheader()
            writer.writerows(rows)
    elif name.endswith("jsonl"):
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    else:
        parquet.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    source = MetadataFolderConfig(path=str(tmp_path)).open()
    assert source.kind == "video"
    assert captions(source) == {
        "data/a.mp4": "one",
        "../../etc/passwd.mp4": "[outside_folder]",
        "data/missing.mp4": "[missing]",
    }


def test_metadata_has_to_be_there_once_and_with_its_columns(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"contains none, expected exactly one of metadata\.csv, "):
        MetadataFolderConfig(path=str(tmp_path)).open()
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.jpg", "txt": "x"}\n')
    with pytest.raises(SourceError, match=r"no column 'caption' or 'text' .* did you mean 'txt'"):
        MetadataFolderConfig(path=str(tmp_path)).open()
    assert MetadataFolderConfig(path=str(tmp_path), caption="txt").open().kind == "image"
    (tmp_path / "metadata.csv").write_text("file_name,text\na,b\n")
    with pytest.raises(SourceError, match=r"contains metadata\.csv and metadata\.jsonl, expected"):
        MetadataFolderConfig(path=str(tmp_path)).open()


def test_metadata_without_captions_or_media_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,text\na.mp4,\nb.mp4, \n")
    with pytest.raises(SourceError, match=r"column 'text' of metadata\.csv is empty for all 2"):
        MetadataFolderConfig(path=str(tmp_path)).open()
    (tmp_path / "metadata.csv").write_text("file_name,text\na,b\n")
    with pytest.raises(SourceError, match="lists no videos or images in column 'file_name'"):
        MetadataFolderConfig(path=str(tmp_path)).open()


def test_a_suffix_may_be_in_upper_case(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "a.TXT").write_text("one")
    (tmp_path / "b.TXT").write_text("wrong")
    (tmp_path / "b.txt").write_text("two")
    assert captions(PairedFolderConfig(path=str(tmp_path)).open()) == {"a.JPG": "one", "b.jpg": "two"}


def test_a_caption_in_another_encoding_is_left_out(tmp_path: Path) -> None:
    texts = {"a": "café".encode(), "b": "café".encode("latin-1"), "c": "café".encode("utf-16"), "d": b"cat\0"}
    for stem, text in texts.items():
        Image.new("RGB", (8, 8)).save(tmp_path / f"{stem}.png")
        (tmp_path / f"{stem}.txt").write_bytes(text)
    assert captions(PairedFolderConfig(path=str(tmp_path)).open()) == {
        "a.png": "café",
        "b.png": "[bad_caption]",
        "c.png": "café",
        "d.png": "[bad_caption]",
    }
    for stem in "ac":
        (tmp_path / f"{stem}.txt").unlink()
    with pytest.raises(SourceError, match=r"all are empty or unreadable: .*b\.txt, line 1: byte 0xE9"):
        PairedFolderConfig(path=str(tmp_path)).open()
