import struct
import zipfile

import pytest
import torch

from videocrafter.evaluation.exam.video_store import StoredVideos, fingerprint


def test_videos_come_back_to_within_half_a_level(tmp_path) -> None:
    store = StoredVideos(tmp_path / "text", ["a", "b"])
    videos = torch.rand(2, 3, 3, 8, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for number in (0, 1):
        store.write(number, videos[number])
    assert store.missing() == []
    torch.testing.assert_close(store[0:2], videos, atol=0.5 / 127.5 + 1e-6, rtol=0.0)
    assert store[1:2].shape == (1, 3, 3, 8, 6)


def test_changed_damaged_and_absent_videos_are_missing(tmp_path) -> None:
    store = StoredVideos(tmp_path, ["a", "b", "c", "d"])
    for number in (0, 1, 2):
        store.write(number, torch.zeros(1, 3, 4, 4))
    (tmp_path / "0001.npz").write_bytes((tmp_path / "0001.npz").read_bytes()[:40])
    (tmp_path / "0002.npz").write_bytes(b"")
    assert store.missing() == [1, 2, 3]
    assert StoredVideos(tmp_path, ["other"]).missing() == [0]


def test_a_video_with_a_damaged_byte_is_missing_or_whole(tmp_path) -> None:
    store = StoredVideos(tmp_path, ["a" * 64])
    video = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    store.write(0, video)
    path = tmp_path / "0000.npz"
    content = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        entries = [file.getinfo(name) for name in ("frames.npy", "fingerprint.npy")]
    data = set()
    for entry in entries:
        name_and_extra = struct.unpack("<HH", content[entry.header_offset + 26 : entry.header_offset + 30])
        first = entry.header_offset + 30 + sum(name_and_extra)
        data |= set(range(first, first + entry.compress_size))
    for offset in range(0, len(content), 7):
        path.write_bytes(content[:offset] + bytes([content[offset] ^ 0xFF]) + content[offset + 1 :])
        is_missing = store.missing() == [0]
        assert is_missing or offset not in data
        if not is_missing:  # a byte without meaning, such as one of a time stamp
            torch.testing.assert_close(store[0:1][0], video, atol=0.5 / 127.5 + 1e-6, rtol=0.0)
    store.write(0, video)
    assert store.missing() == []


def test_a_fingerprint_depends_on_every_value_and_on_the_image() -> None:
    content = {"prompt": "a cat", "seed": 1, "steps": None}
    image = torch.zeros(3, 4, 4)
    found = {
        fingerprint(content),
        fingerprint({**content, "seed": 2}),
        fingerprint({**content, "steps": 4}),
        fingerprint(content, image),
        fingerprint(content, image + 0.5),
    }
    assert len(found) == 5
    assert fingerprint(content, image) == fingerprint(dict(reversed(content.items())), image.clone())


def test_a_store_reads_only_what_was_written(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        StoredVideos(tmp_path, ["a"])[0:1]
