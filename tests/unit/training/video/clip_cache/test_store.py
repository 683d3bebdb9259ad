"""A store contains the entries of all processes, in few files, and loses at most one unwritten file."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.training.video.clip_cache import store as store_module
from videocrafter.training.video.clip_cache.cache_file import Entry, write_cache_file
from videocrafter.training.video.clip_cache.config import CacheError
from videocrafter.training.video.clip_cache.store import EntryStore

DIGEST = "0123456789abcdef"


def name(number: int) -> str:
    return hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest()


def entry(number: int, size: int = 8) -> Entry:
    return Entry(record={"number": number}, tensors={"x": torch.full((size,), float(number))})


def number_of(store: EntryStore, key: int) -> float | None:
    found = store.read(name(key))
    return float(found[0].tensors["x"][0]) if found else None


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


@given(actions=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["put", "flush"]), st.integers(0, 9))))
def test_what_any_process_has_written_all_find(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[int, str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("store")
    stores = [EntryStore(folder, DIGEST, file_bytes=200) for _ in range(3)]
    put: set[int] = set()
    for which, action, number in actions:
        if action == "put":
            stores[which].put(name(number), entry(number))
            put.add(number)
            assert number_of(stores[which], number) == number
        else:
            stores[which].flush()
    for store in stores:
        store.flush()
    for store in (*stores, EntryStore(folder, DIGEST)):
        # Modification times are coarse on some disks. A loader that misses an entry decodes its clip instead.
        store._looked_at = None
        assert {number for number in range(10) if name(number) in store} == put
        assert [number_of(store, number) for number in sorted(put)] == sorted(put)


def test_what_others_write_is_found_as_soon_as_it_is_missed(tmp_path: Path) -> None:
    one, other = EntryStore(tmp_path, DIGEST), EntryStore(tmp_path, DIGEST)
    one.put(name(1), entry(1))
    assert name(1) not in other
    one.flush()
    assert name(1) in other
    assert number_of(other, 1) == 1


def test_there_are_few_files_whatever_the_number_of_entries(tmp_path: Path) -> None:
    store = EntryStore(tmp_path, DIGEST, file_bytes=40_000)
    for number in range(500):
        store.put(name(number), entry(number, size=100))
    store.flush()
    store.flush()
    assert 5 <= len(files(tmp_path)) <= 6
    assert all(path.stat().st_size < 200_000 for path in files(tmp_path))


def test_a_killed_process_loses_only_what_it_had_not_written(tmp_path: Path) -> None:
    store = EntryStore(tmp_path, DIGEST, file_bytes=1000)
    for number in range(50):
        store.put(name(number), entry(number))
    unwritten = set(store._unwritten)
    found = EntryStore(tmp_path, DIGEST)
    assert {name(number) for number in range(50) if name(number) not in found} == unwritten
    assert 0 < len(unwritten) < 30


def test_what_waits_for_too_long_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_SECONDS_UNWRITTEN", -1.0)
    EntryStore(tmp_path, DIGEST).put(name(1), entry(1))
    assert len(files(tmp_path)) == 1


def test_a_damaged_file_is_named_and_the_others_are_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = EntryStore(tmp_path, DIGEST)
    for number in range(2):
        store.put(name(number), entry(number))
        store.flush()
    damaged = next(path for path in files(tmp_path) if path.name.endswith("-000000.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-3])
    again = EntryStore(tmp_path, DIGEST)
    assert str(damaged) in caplog.text
    assert str(damaged) in again.damaged[0]
    assert [name(number) in again for number in range(2)] == [False, True]


def test_a_damaged_entry_is_named_and_another_copy_of_it_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = EntryStore(tmp_path, DIGEST)
    store.put(name(7), entry(7, size=100))
    store.put(name(8), entry(8))
    store.flush()
    path = files(tmp_path)[0]
    content = path.read_bytes()
    where = content.index(torch.full((100,), 7.0).numpy().tobytes())
    path.unlink()
    path.write_bytes(content[: where + 40] + b"\xff" + content[where + 41 :])
    store = EntryStore(tmp_path, DIGEST)
    assert name(7) in store
    assert store.read(name(7)) == []
    assert f"entry {name(7)} in {path} is damaged" in caplog.text
    assert name(7) not in store, "a damaged entry counts as missing"
    assert number_of(store, 8) == 8
    store.put(name(7), entry(7))
    store.flush()
    assert number_of(EntryStore(tmp_path, DIGEST), 7) == 7


def test_names_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    store = EntryStore(tmp_path, DIGEST)
    one, other = "a" * 31 + "1", "a" * 31 + "2"
    store.put(one, entry(1))
    store.flush()
    assert store.read(other) == []
    store.put(other, entry(2))
    store.flush()
    assert [store.read(key)[0].record["number"] for key in (one, other)] == [1, 2]


def test_more_files_than_are_kept_open_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_MAX_OPEN_FILES", 2)
    store = EntryStore(tmp_path, DIGEST, file_bytes=1)
    for number in range(5):
        store.put(name(number), entry(number))
    for _ in range(2):
        assert [number_of(store, number) for number in range(5)] == [0, 1, 2, 3, 4]
    assert len(store._open) == 2


def test_it_may_be_filled_and_read_from_several_threads(tmp_path: Path) -> None:
    store = EntryStore(tmp_path, DIGEST, file_bytes=500)
    failed: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for number in range(first, first + 60):
                store.put(name(number), entry(number))
                assert number_of(store, number) == number
        except BaseException as error:  # noqa: BLE001  raised below
            failed.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    store.flush()
    again = EntryStore(tmp_path, DIGEST)
    assert all(name(number) in again for first in (0, 100, 200) for number in range(first, first + 60))


def test_a_file_of_another_cache_in_the_folder_is_refused(tmp_path: Path) -> None:
    write_cache_file(tmp_path / "stray.safetensors", {name(1): entry(1)}, "f" * 16)
    with pytest.raises(CacheError, match=r"stray\.safetensors belongs to another cache"):
        EntryStore(tmp_path, DIGEST)
