"""WebVid, custom manifests, Panda-70M and OpenVid-1M: rows become clips with the right files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.unit.media.odd_videos import encode_video
from videocrafter.data.clip import BrokenClip, Clip, DecodingLimits
from videocrafter.data.errors import SourceError
from videocrafter.data.media_clip import MediaClip
from videocrafter.data.source import ClipSource, SourceConfig
from videocrafter.data.sources.manifest import ManifestConfig
from videocrafter.data.sources.openvid import OpenVidConfig
from videocrafter.data.sources.panda70m import Panda70MConfig
from videocrafter.data.sources.webvid import WebVidConfig


def write_csv(path: Path, rows: list[dict[str, object]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def clips_of(source: ClipSource) -> list[Clip]:
    return [clip for index in range(source.num_shards) for clip in source.read_shard(index).clips]


def described(source: ClipSource) -> list[tuple[object, ...]]:
    """Return (file, caption, start, end) of each clip, or the reason why it is broken."""
    found: list[tuple[object, ...]] = []
    for clip in clips_of(source):
        if isinstance(clip, BrokenClip):
            found.append((clip.reason,))
        else:
            assert isinstance(clip, MediaClip)
            found.append((clip.media.url, clip.caption, clip.start_s, clip.end_s))
    return found


def test_webvid_finds_its_files_by_folder_and_id(tmp_path: Path) -> None:
    encode_video(tmp_path / "root" / "videos" / "000_049" / "17.mp4")
    rows = [
        {"videoid": 17, "contentUrl": "x", "duration": "PT00H00M02S", "page_dir": "000_049", "name": " A  cat "},
        {"videoid": 18, "contentUrl": "x", "duration": "", "page_dir": "../..", "name": "outside"},
        {"videoid": "", "contentUrl": "x", "duration": "", "page_dir": "000_049", "name": "no id"},
        {"videoid": 19, "contentUrl": "x", "duration": "", "page_dir": "000_049", "name": ""},
    ]
    root = str(tmp_path / "root")
    source = WebVidConfig(path=write_csv(tmp_path / "w.csv", rows), root=root).open()
    assert (source.kind, source.num_shards) == ("video", 4)
    assert described(source) == [
        (f"{root}/videos/000_049/17.mp4", "A cat", 0.0, None),
        ("outside_folder",),
        ("missing",),
        (f"{root}/videos/000_049/19.mp4", "", 0.0, None),
    ]
    with clips_of(source)[0].open(DecodingLimits()) as video:
        assert (video.caption, video.num_frames) == ("A cat", 16)
        assert video.frames_at([0.0]).shape == (1, 48, 64, 3)


def test_a_manifest_finds_its_columns_by_their_usual_names(tmp_path: Path) -> None:
    rows = [
        {"path": "sub/a.mp4", "text": "one"},
        {"path": "/elsewhere/b.mp4", "text": "two"},
        {"path": "../c.mp4", "text": "three"},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    write_csv(tmp_path / "m.csv", rows)
    for name in ("m.jsonl", "m.parquet", "m.csv"):
        found = described(ManifestConfig(path=str(tmp_path / name)).open())
        assert found == [
            (f"{tmp_path}/sub/a.mp4", "one", 0.0, None),
            ("/elsewhere/b.mp4", "two", 0.0, None),
            ("outside_folder",),
        ]
    rooted = ManifestConfig(path=str(tmp_path / "m.csv"), root="s3://bucket/videos", kind="image").open()
    assert rooted.kind == "image"
    assert described(rooted)[:2] == [("s3://bucket/videos/sub/a.mp4", "one", 0.0, None), ("outside_folder",)]


def test_a_manifest_with_columns_by_other_names_and_parts_of_files(tmp_path: Path) -> None:
    rows = [
        {"where": "a.mp4", "what": "one", "from": "0:01.5", "to": 4},
        {"where": "b.mp4", "what": "two", "from": "", "to": " "},
        {"where": "c.mp4", "what": "three", "from": "1m30s", "to": ""},
    ]
    config = ManifestConfig(
        path=write_csv(tmp_path / "m.csv", rows), file="where", caption="what", start="from", end="to"
    )
    assert described(config.open()) == [
        (f"{tmp_path}/a.mp4", "one", 1.5, 4.0),
        (f"{tmp_path}/b.mp4", "two", 0.0, None),
        ("bad_row",),
    ]


def test_lists_in_cells_are_several_clips(tmp_path: Path) -> None:
    rows = [{"video": "a.mp4", "caption": ["one", "two"], "start": [0.0, 3.0], "end": [3.0, 5.0]}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    source = ManifestConfig(path=str(tmp_path / "m.parquet"), start="start", end="end").open()
    assert described(source) == [(f"{tmp_path}/a.mp4", "one", 0.0, 3.0), (f"{tmp_path}/a.mp4", "two", 3.0, 5.0)]
    assert [clip.key for clip in clips_of(source)] == ["a.mp4#0", "a.mp4#1"]


def test_a_clip_without_its_time_is_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('[{"video": "a.mp4", "caption": ["one", "two"], "start": [1.0]}]')
    clips = clips_of(ManifestConfig(path=str(tmp_path / "m.json"), start="start").open())
    assert [clip.key for clip in clips] == ["a.mp4#0", "a.mp4#1"]
    assert isinstance(clips[1], BrokenClip)
    assert clips[1].message.endswith("m.json, entry 0: there are 2 clips, but only 1 entries for their start")


def test_a_bad_row_is_a_bad_sample_and_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("video,caption\na.mp4,a cat on a mat, seen from above\nb.mp4,a dog\n")
    config = ManifestConfig(path=str(tmp_path / "m.csv"))
    assert described(config.open()) == [("bad_row",), (f"{tmp_path}/b.mp4", "a dog", 0.0, None)]
    (bad, _) = clips_of(config.open())
    assert bad.key == f"{tmp_path}/m.csv, line 2"
    (tmp_path / "m.csv").write_text("video,caption\na.mp4,a cat on a mat, seen from above\n")
    assert described(config.open()) == [("bad_row",)]


def test_panda_70m_cuts_source_videos_into_the_desirable_clips(tmp_path: Path) -> None:
    rows = [
        {
            "url": "https://www.youtube.com/watch?v=AbC-d_f0123",
            "timestamp": "[['0:00:10.000', '0:00:12.500'], ['0:01:00.000', '0:01:09.000'], ['0:02:00', '0:02:01']]",
            "caption": "['A cat sits.', \"A dog's nose.\", 'Text on screen.']",
            "matching_score": "[0.4, 0.5, 0.3]",
            "desirable_filtering": "['desirable', '2_low_desirable_score', 'desirable']",
            "shot_boundary_detection": "[]",
        },
        {
            "url": "https://youtu.be/ZZZZZZZZZZZ",
            "timestamp": "['0:00:01.000', '0:00:02.000']",
            "caption": "['alone']",
            "matching_score": "[0.4]",
            "desirable_filtering": "['desirable']",
            "shot_boundary_detection": "[]",
        },
        {
            "url": "nonsense",
            "timestamp": "",
            "caption": "['x']",
            "matching_score": "",
            "desirable_filtering": "['desirable']",
            "shot_boundary_detection": "",
        },
        {
            "url": "https://youtu.be/YYYYYYYYYYY",
            "timestamp": "",
            "caption": "['cut",
            "matching_score": "",
            "desirable_filtering": "",
            "shot_boundary_detection": "",
        },
    ]
    path = write_csv(tmp_path / "p.csv", rows)
    assert described(Panda70MConfig(path=path, root="/v").open()) == [
        ("/v/AbC-d_f0123.mp4", "A cat sits.", 10.0, 12.5),
        ("/v/AbC-d_f0123.mp4", "Text on screen.", 120.0, 121.0),
        ("/v/ZZZZZZZZZZZ.mp4", "alone", 1.0, 2.0),
        ("missing",),
        ("bad_row",),
    ]
    everything = described(Panda70MConfig(path=path, root="/v", desirable_only=False).open())
    assert everything[1] == ("/v/AbC-d_f0123.mp4", "A dog's nose.", 60.0, 69.0)
    assert len(everything) == 6


def test_openvid_takes_its_columns_and_its_scores(tmp_path: Path) -> None:
    rows = [
        {"video": "a.mp4", "caption": "one", "aesthetic score": 5.5, "motion score": 3, "fps": 24},
        {"video": "b.mp4", "caption": "two", "aesthetic score": 4.5, "motion score": 9, "fps": 24},
        {"video": "c.mp4", "caption": "three", "aesthetic score": "", "motion score": 9, "fps": 24},
        {"video": "d.mp4", "caption": "four", "aesthetic score": 9, "motion score": -1, "fps": 24},
    ]
    path = write_csv(tmp_path / "OpenVid-1M.csv", rows)

    def names(**limits: float) -> list[str]:
        return [str(found[0]) for found in described(OpenVidConfig(path=path, root="/v", **limits).open())]

    assert names() == ["/v/a.mp4", "/v/b.mp4", "/v/c.mp4", "/v/d.mp4"]
    assert names(min_aesthetic=5.0) == ["/v/a.mp4", "/v/d.mp4"]
    assert names(min_aesthetic=5.0, min_motion=0.0) == ["/v/a.mp4"]


@pytest.mark.parametrize(
    ("config", "row", "message"),
    [
        (
            WebVidConfig(path="", root="r"),
            {"video_id": 1, "page_dir": "a", "name": "b"},
            "'videoid' .* did you mean 'video_id'",
        ),
        (
            WebVidConfig(path="", root="r"),
            {"videoid": 1, "page_dir": "a", "names": "b"},
            "'name' .* did you mean 'names'",
        ),
        (
            WebVidConfig(path="", root="r"),
            {"videoid": 1, "page_dir": "a", "name": " "},
            "column 'name' is empty for all 1",
        ),
        (ManifestConfig(path=""), {"clip_path": "a", "caption": "b"}, "no column 'video' or .* for the video"),
        (
            ManifestConfig(path="", caption="captoin"),
            {"video": "a", "caption": "b"},
            "'captoin' .* did you mean 'caption'",
        ),
        (ManifestConfig(path="", start="begin"), {"video": "a", "caption": "b", "begins": 1}, "'begin' .* 'begins'"),
        (Panda70MConfig(path="", root="r"), {"url": "a", "timestamp": "b", "caption": "c"}, "desirable_only=false"),
        (
            OpenVidConfig(path="", root="r", min_motion=1.0),
            {"video": "a", "caption": "b"},
            "no column 'motion score'",
        ),
    ],
)
def test_a_wrong_manifest_is_an_error_before_the_first_sample(
    tmp_path: Path, config: SourceConfig, row: dict[str, object], message: str
) -> None:
    path = write_csv(tmp_path / "m.csv", [row])
    with pytest.raises(SourceError, match=message) as caught:
        type(config)(**{**vars(config), "path": path}).open()
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_is_above_zero(weight: float) -> None:
    with pytest.raises(ValueError, match="weight is"):
        ManifestConfig(path="m.csv", weight=weight)


def test_a_kind_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="'video' or 'image'"):
        ManifestConfig(path="m.csv", kind="videos")  # type: ignore[arg-type]
