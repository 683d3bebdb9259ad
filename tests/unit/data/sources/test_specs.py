"""Sources specified by text: all formats, all types of options, and all errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.data.errors import SourceError
from videocrafter.data.media_clip import MediaClip
from videocrafter.data.source import SourceConfig
from videocrafter.data.sources.manifest import ManifestConfig
from videocrafter.data.sources.metadata_folder import MetadataFolderConfig
from videocrafter.data.sources.openvid import OpenVidConfig
from videocrafter.data.sources.paired_folder import PairedFolderConfig
from videocrafter.data.sources.panda70m import Panda70MConfig
from videocrafter.data.sources.specs import FORMATS, open_source, parse_source
from videocrafter.data.sources.sprite_clips import SpriteClipsConfig
from videocrafter.data.sources.webdataset import WebDatasetConfig
from videocrafter.data.sources.webvid import WebVidConfig


@pytest.mark.parametrize(
    ("spec", "config"),
    [
        ("webvid:/d/x.csv?root=/d&weight=2.5", WebVidConfig(path="/d/x.csv", root="/d", weight=2.5)),
        ("manifest:s3://b/m-*.parquet?kind=image", ManifestConfig(path="s3://b/m-*.parquet", kind="image")),
        ("manifest:/d/m.csv?caption=a%26b%20c", ManifestConfig(path="/d/m.csv", caption="a&b c")),
        ("panda70m:p.csv?root=v&desirable_only=false", Panda70MConfig(path="p.csv", root="v", desirable_only=False)),
        ("openvid:o.csv?root=v&min_motion=3", OpenVidConfig(path="o.csv", root="v", min_motion=3.0)),
        ("folder:/a b/c", PairedFolderConfig(path="/a b/c")),
        ("metadata:/d", MetadataFolderConfig(path="/d")),
        (
            "webdataset:/d/{00..09}.tar?caption=top_caption&shards_together=2",
            WebDatasetConfig(path="/d/{00..09}.tar", caption="top_caption", shards_together=2),
        ),
        ("webdataset:/d/0000?.tar", WebDatasetConfig(path="/d/0000?.tar")),
        ("sprites:?num_clips=7&split=all", SpriteClipsConfig(num_clips=7, split="all")),
        ("sprites:", SpriteClipsConfig()),
        ("m.jsonl?caption=text", ManifestConfig(path="m.jsonl", caption="text")),
        ("s3://b/m.csv.gz", ManifestConfig(path="s3://b/m.csv.gz")),
        ("/d/*.tar", WebDatasetConfig(path="/d/*.tar")),
    ],
)
def test_a_line_is_parsed_to_a_configuration(spec: str, config: SourceConfig) -> None:
    assert parse_source(spec) == config


def test_the_format_of_a_folder_follows_from_its_contents(tmp_path: Path) -> None:
    assert parse_source(str(tmp_path)) == PairedFolderConfig(path=str(tmp_path))
    (tmp_path / "a.tar").write_bytes(b"")
    assert parse_source(str(tmp_path)) == WebDatasetConfig(path=str(tmp_path))
    (tmp_path / "metadata.csv").write_bytes(b"")
    assert parse_source(f"{tmp_path}?weight=3") == MetadataFolderConfig(path=str(tmp_path), weight=3.0)


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "clips").mkdir()
    for number in range(2):
        (tmp_path / f"{number}.csv").write_text(f"video,caption\n{number}.mp4,a cat\n")
    home = str(tmp_path)
    assert parse_source("folder:~/clips") == parse_source("~/clips") == PairedFolderConfig(path=f"{home}/clips")
    assert parse_source("~/0.csv?root=~/videos") == ManifestConfig(path=f"{home}/0.csv", root=f"{home}/videos")
    assert parse_source("folder:~nobody-of-this-name/x") == PairedFolderConfig(path="~nobody-of-this-name/x")
    assert ManifestConfig(path="~/0.csv").path == f"{home}/0.csv"
    for pattern in ("~/*.csv", "~/{0,1}.csv", "{~/0.csv,~/1.csv}"):
        source = open_source(f"manifest:{pattern}")
        clips = [clip for index in range(source.num_shards) for clip in source.read_shard(index).clips]
        assert [clip.media.url for clip in clips if isinstance(clip, MediaClip)] == [f"{home}/0.mp4", f"{home}/1.mp4"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("webvit:/d/x.csv", "unknown format 'webvit'; did you mean 'webvid'"),
        ("/no/such/folder", "is not a folder and has no known format"),
        ("webvid:/d/x.csv?rot=/d", "webvid has no option 'rot'; did you mean 'root'"),
        ("webvid:/d/x.csv?path=/d", "no option 'path'"),
        ("webvid:/d/x.csv", "webvid needs 'root'; write webvid:PATH\\?root=VALUE"),
        ("webvid:?root=/d", "webvid needs 'path'; write webvid:PATH"),
        ("folder:/d?weight=much", "weight is 'much', expected a number"),
        ("folder:/d?weight=0", "weight is 0.0, expected a number above 0"),
        ("folder:/d?kind=audio", "kind is 'audio', expected 'video' or 'image'"),
        ("sprites:?num_clips=1.5", "num_clips is '1.5', expected a whole number"),
        ("panda70m:p?root=v&desirable_only=maybe", "expected true or false"),
        ("folder:/d?kind=video&weight", "'weight' is not an option; write NAME=VALUE"),
    ],
)
def test_every_mistake_is_named_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        parse_source(spec)
    assert "\n" not in str(caught.value)


@given(
    st.text(max_size=30) | st.builds("{}:{}?{}={}".format, st.sampled_from(list(FORMATS)), *[st.text(max_size=8)] * 3)
)
def test_no_line_is_too_odd(spec: str) -> None:
    try:
        assert isinstance(parse_source(spec), SourceConfig)
    except SourceError as error:
        message = str(error)
    else:
        return
    assert message


def test_a_source_is_opened_by_its_line_or_its_configuration() -> None:
    assert open_source("sprites:?num_clips=7").num_shards == 7
    assert open_source(SpriteClipsConfig(num_clips=8)).num_shards == 8
