"""A cache file returns exactly the entries written to it, or names the damaged file."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from videocrafter.training.video.clip_cache import cache_file
from videocrafter.training.video.clip_cache.cache_file import (
    CacheFile,
    DamagedFileError,
    Entry,
    write_cache_file,
)
from videocrafter.training.video.clip_cache.config import CacheError

DIGEST = "0123456789abcdef"
NAME, OTHER, BAD = "a" * 32, "b" * 32, "c" * 32
ENTRIES = {
    NAME: Entry(
        record={"caption": "a cat, 猫", "fps": 7.3, "shape": [2, 16, 16, 3]},
        tensors={"mean": torch.arange(24.0).reshape(2, 3, 4).bfloat16(), "std": torch.ones(2, 3, 4)},
    ),
    OTHER: Entry(record={}, tensors={"text": torch.linspace(0, 1, 5, dtype=torch.float16)}),
    BAD: Entry(record={"reason": "unreadable", "message": "no video"}, tensors={}),
}


def assert_same(found: Entry | None, expected: Entry) -> None:
    assert found is not None
    assert found.record == expected.record
    assert found.tensors.keys() == expected.tensors.keys()
    for part, tensor in expected.tensors.items():
        assert found.tensors[part].dtype == tensor.dtype
        assert torch.equal(found.tensors[part], tensor)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_cache_file(tmp_path / "one.safetensors", ENTRIES, DIGEST)
    return tmp_path / "one.safetensors"


def test_entries_come_back_as_they_were(path: Path) -> None:
    file = CacheFile(path, DIGEST)
    assert set(file.names()) == set(ENTRIES)
    for name, entry in ENTRIES.items():
        assert_same(file.read(name), entry)
    assert file.read("d" * 32) is None


@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    record=st.dictionaries(st.text(max_size=5), st.one_of(st.text(max_size=9), st.floats(allow_nan=False))),
)
def test_any_shape_and_any_record_comes_back(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], dtype: torch.dtype, record: dict[str, object]
) -> None:
    path = tmp_path_factory.mktemp("any") / "one.safetensors"
    entry = Entry(record=record, tensors={"x": torch.randn(shape).to(dtype)})
    write_cache_file(path, {NAME: entry}, DIGEST)
    assert_same(CacheFile(path, DIGEST).read(NAME), entry)


@settings(max_examples=300)
@given(data=st.data())
def test_after_any_bit_flip_an_entry_is_correct_or_reported_as_damaged(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flipped"
    folder.mkdir(exist_ok=True)
    whole = folder / "whole.safetensors"
    if not whole.exists():
        write_cache_file(whole, ENTRIES, DIGEST)
    content = bytearray(whole.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = folder / "damaged.safetensors"
    path.unlink(missing_ok=True)  # a memory-mapped file must not change
    path.write_bytes(content)
    with suppress(DamagedFileError, CacheError):
        file = CacheFile(path, DIGEST)
        for name in file.names():
            found = file.read(name)
            if found is not None and name in ENTRIES:
                assert_same(found, ENTRIES[name])


@given(left=st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_off_is_named(tmp_path_factory: pytest.TempPathFactory, left: float) -> None:
    path = tmp_path_factory.mktemp("cut") / "one.safetensors"
    write_cache_file(path, ENTRIES, DIGEST)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: int(left * len(content))])
    with pytest.raises(DamagedFileError, match=str(path)):
        CacheFile(path, DIGEST)


def test_a_file_of_another_cache_is_refused(path: Path) -> None:
    with pytest.raises(CacheError, match="belongs to another cache"):
        CacheFile(path, "f" * 16)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(tensors: object, file: Path, metadata: object) -> None:
        file.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_file, "save_file", fill)
    with pytest.raises(CacheError, match="the disk is full"):
        write_cache_file(tmp_path / "one.safetensors", ENTRIES, DIGEST)
    assert list(tmp_path.iterdir()) == []
