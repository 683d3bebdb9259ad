"""A cache with another description is refused, and the message names the differences."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.unit.training.video.clip_cache.toy_clips import CUTTING, sources_of
from videocrafter.data.clip import DecodingLimits
from videocrafter.training.video.clip_cache.config import CacheConfig, CacheError
from videocrafter.training.video.clip_cache.description import (
    DESCRIPTION,
    CacheDescription,
    claim_folder,
    describe,
)

HOW = {"condition_frame": "random", "network_dtype": "bf16", "dtype": "bf16"}


@pytest.fixture(scope="module")
def description(t2v_start: Path) -> CacheDescription:
    return describe(CUTTING, sources_of(t2v_start), **HOW)  # type: ignore[arg-type]


def test_a_cache_is_taken_up_again_with_the_same(tmp_path: Path, description: CacheDescription) -> None:
    folder = tmp_path / "new" / "cache"
    claim_folder(folder, description, may_make=True)
    written = (folder / DESCRIPTION).read_bytes()
    for may_make in (True, False):
        claim_folder(folder, description, may_make=may_make)
        assert (folder / DESCRIPTION).read_bytes() == written


def test_copies_of_the_same_networks_are_the_same(
    tmp_path: Path, t2v_start: Path, description: CacheDescription
) -> None:
    copied = shutil.copytree(t2v_start, tmp_path / "elsewhere")
    assert describe(CUTTING, sources_of(copied), **HOW) == description  # type: ignore[arg-type]
    patient = replace(CUTTING, limits=DecodingLimits(time_limit_s=99))
    assert describe(patient, sources_of(copied), **HOW) == description  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda now: replace(now, cutting=replace(now.cutting, height=320)), "cutting.height was 16, now 320"),
        (
            lambda now: replace(
                now, cutting=replace(now.cutting, sampling=replace(now.cutting.sampling, fps_range=None))
            ),
            r"cutting.sampling.fps_range was \[4.0, 32.0\], now none",
        ),
        (lambda now: replace(now, autoencoder="other"), "autoencoder was [0-9a-f]{16}, now other"),
        (lambda now: replace(now, text_tower="other"), "text_tower was"),
        (lambda now: replace(now, image_tower="other"), "image_tower was none, now other"),
        (lambda now: replace(now, condition_frame="first"), "condition_frame was none, now first"),
        (lambda now: replace(now, network_dtype="fp32"), "network_dtype was bf16, now fp32"),
        (lambda now: replace(now, dtype="fp16"), "dtype was bf16, now fp16"),
        (lambda now: replace(now, format=2), "format was 1, now 2"),
    ],
)
def test_a_cache_that_was_made_with_something_else_is_refused_by_name(
    tmp_path: Path,
    description: CacheDescription,
    change: Callable[[CacheDescription], CacheDescription],
    said: str,
) -> None:
    claim_folder(tmp_path, description, may_make=True)
    other = change(description)
    with pytest.raises(CacheError, match=f"cache in {tmp_path} was made with other settings .*{said}"):
        claim_folder(tmp_path, other, may_make=True)
    assert other.digest != description.digest


@pytest.mark.parametrize(
    ("part", "field"), [("vae", "autoencoder"), ("text_encoder", "text_tower"), ("image_encoder", "image_tower")]
)
def test_networks_of_other_weights_are_other_networks(tmp_path: Path, i2v_start: Path, part: str, field: str) -> None:
    before = describe(CUTTING, sources_of(i2v_start), **HOW)  # type: ignore[arg-type]
    copied = shutil.copytree(i2v_start, tmp_path / "trained")
    file = next((copied / part).glob("*.safetensors"))
    weights = load_file(file)
    first = next(iter(weights))
    weights[first] = torch.nextafter(weights[first], torch.tensor(torch.inf))
    save_file(weights, file, metadata={"format": "pt"})
    after = describe(CUTTING, sources_of(copied), **HOW)  # type: ignore[arg-type]
    assert replace(after, **{field: getattr(before, field)}) == before
    assert after != before


def test_what_is_no_cache_is_left_alone(tmp_path: Path, description: CacheDescription) -> None:
    (tmp_path / "holiday.mp4").touch()
    with pytest.raises(CacheError, match="is not empty and is not a cache"):
        claim_folder(tmp_path, description, may_make=True)
    with pytest.raises(CacheError, match="is a file; choose a folder"):
        claim_folder(tmp_path / "holiday.mp4", description, may_make=True)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.mp4"]


def test_a_cache_that_is_only_to_be_read_has_to_be_there(tmp_path: Path, description: CacheDescription) -> None:
    with pytest.raises(CacheError, match=r"there is no cache in .*nowhere.*`videocrafter cache`"):
        claim_folder(tmp_path / "nowhere", description, may_make=False)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_damaged_description_is_named(tmp_path: Path, description: CacheDescription, content: bytes) -> None:
    (tmp_path / DESCRIPTION).write_bytes(content)
    with pytest.raises(CacheError, match=f"{tmp_path / DESCRIPTION} cannot be read"):
        claim_folder(tmp_path, description, may_make=True)


def test_the_description_can_be_read_by_people(tmp_path: Path, description: CacheDescription) -> None:
    claim_folder(tmp_path, description, may_make=True)
    written = json.loads((tmp_path / DESCRIPTION).read_text())
    assert written["cutting"]["height"] == 16
    assert written["dtype"] == "bf16"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fill": "all"}, "cache.fill is 'all', expected one of missing, never"),
        ({"dtype": "int8"}, "cache.dtype is 'int8'"),
        ({"variants": 0}, "cache.variants is 0"),
        ({"image_variants": 0}, "cache.image_variants is 0"),
        ({"shard_mb": 0}, "cache.shard_mb is 0"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CacheConfig(**settings)  # type: ignore[arg-type]


def test_clips_have_fixed_cuts_with_a_folder_or_where_their_number_is_given() -> None:
    assert CacheConfig().cuts is None
    with_folder = CacheConfig(folder="x").cuts
    assert with_folder is not None
    assert (with_folder.count("video"), with_folder.count("image")) == (4, 1)
    without = CacheConfig(variants=2, image_variants=3).cuts
    assert without is not None
    assert (without.count("video"), without.count("image")) == (2, 3)
