"""Damaged media files and archives cause no crash and no hang, and each is either loaded or reported.

    VIDEOCRAFTER_FUZZ=500 python -m pytest tests/unit/data/test_damaged_media.py

creates 500 damaged files of each kind; the default is a few.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.unit.data.damaged_media import shown, whole_files, write_damaged_archives, write_damaged_folder
from videocrafter.data.bad_samples import BadSampleRules
from videocrafter.data.clip import DecodingLimits
from videocrafter.data.clip_sampling import ClipSampling
from videocrafter.data.cutting import CuttingConfig
from videocrafter.data.errors import REASONS
from videocrafter.data.loader import VideoLoader
from videocrafter.data.loader_config import LoaderConfig

COUNT = int(os.environ.get("VIDEOCRAFTER_FUZZ", "44"))
SEED = int(os.environ.get("VIDEOCRAFTER_FUZZ_SEED", "0"))
CUTTING = CuttingConfig(
    sampling=ClipSampling(lengths=(4,), fps_range=(4.0, 8.0)),
    height=32,
    width=32,
    limits=DecodingLimits(time_limit_s=20.0, max_pixels=1_000_000),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, bytes]]:
    return whole_files(tmp_path_factory.mktemp("media") / "whole")


def load_all(source: str, report: Path) -> tuple[set[str], dict[str, str]]:
    """Load a source once. Return the keys of loaded samples, and the reasons of skipped ones."""
    config = LoaderConfig(
        sources=(source,),
        cutting=CUTTING,
        epochs=1,
        num_workers=2,
        start_method="fork",
        bad_samples=BadSampleRules(max_bad_share=1.0, max_left_out_share=1.0, window=10**6, report=str(report)),
    )
    arrived: set[str] = set()
    with VideoLoader(config) as loader:
        for batch in loader:
            assert shown(batch.pixels.numpy())
            assert batch.fps.min() > 0
            arrived |= {key.rpartition("/")[2] for key in batch.keys}
    lines = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    assert all(line["reason"] in REASONS and "\n" not in line["message"] for line in lines)
    # All kinds of damage are expected, and no decoder crashes its process.
    assert [line for line in lines if line["reason"] in ("unexpected", "crashed", "too_slow")] == []
    return arrived, {line["key"]: line["reason"] for line in lines}


@pytest.mark.parametrize("kind", ["video", "image"])
def test_every_damaged_file_is_shown_or_named(
    whole: tuple[dict[str, bytes], dict[str, bytes]], tmp_path: Path, kind: str
) -> None:
    names = write_damaged_folder(tmp_path / "clips", whole[kind == "image"], COUNT, SEED)
    arrived, left_out = load_all(f"folder:{tmp_path}/clips?kind={kind}", tmp_path / "bad.jsonl")
    assert arrived | set(left_out) == set(names)
    assert arrived & set(left_out) == set()
    assert len(left_out) > COUNT // 4  # else the damage is too small to prove anything


def test_no_damaged_archive_stops_the_others_or_leaves_a_file(
    whole: tuple[dict[str, bytes], dict[str, bytes]], tmp_path: Path
) -> None:
    write_damaged_archives(tmp_path / "shards", whole[1], COUNT, SEED)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    arrived, left_out = load_all(f"webdataset:{tmp_path}/shards?kind=image", tmp_path / "bad.jsonl")
    assert any(key.startswith("whole.tar#good") for key in arrived)
    assert "damaged_archive" in left_out.values()
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path for path in after if path not in before} == {tmp_path / "bad.jsonl"}
    assert all(after[path] == content for path, content in before.items())


def test_the_same_files_undamaged_all_arrive(
    whole: tuple[dict[str, bytes], dict[str, bytes]], tmp_path: Path
) -> None:
    for suffix, content in whole[0].items():
        stem, _, last = suffix.rpartition(".")
        (tmp_path / f"v{stem}.{last}").write_bytes(content)
        (tmp_path / f"v{stem}.txt").write_text("a caption")
    arrived, left_out = load_all(f"folder:{tmp_path}?kind=video", tmp_path / "bad.jsonl")
    assert left_out == {"vsound.mp4": "audio_only"}
    assert len(arrived) == len(whole[0]) - 1
