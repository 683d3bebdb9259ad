"""Remote videos are copied, tried again, and removed afterwards; a lost connection is not damage."""

import shutil

import fsspec
import pytest

from videocrafter.preparation import fetched as fetching
from videocrafter.preparation.failures import UnitError
from videocrafter.preparation.fetched import fetched
from videocrafter.preparation.plan import list_videos


@pytest.fixture
def video(monkeypatch):
    monkeypatch.setattr(fetching, "_FIRST_PAUSE_S", 0.0)
    fsspec.filesystem("memory").pipe("/fetched/a.mp4", b"content")
    [found] = list_videos(["memory://fetched"])
    return found


def test_a_remote_video_is_a_local_file_for_a_while(video, tmp_path):
    with fetched(video, tmp_path / "scratch", 0) as path:
        assert path.read_bytes() == b"content"
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == [video.id]


def test_a_video_is_downloaded_once_and_old_copies_make_room(video, tmp_path, monkeypatch):
    downloads = []
    download = fetching._download

    def counted(location, target):
        downloads.append(location.url)
        download(location, target)

    monkeypatch.setattr(fetching, "_download", counted)
    for _ in range(3):
        with fetched(video, tmp_path, 10) as path:
            assert path.read_bytes() == b"content"
    assert len(downloads) == 1
    fsspec.filesystem("memory").pipe("/fetched/b.mp4", b"another")
    other = list_videos(["memory://fetched"])[1]
    with fetched(other, tmp_path, 10) as path:
        assert path.read_bytes() == b"another"
    assert [path.name for path in tmp_path.iterdir()] == [other.id]
    fsspec.filesystem("memory").rm("/fetched/b.mp4")


def test_old_copies_make_room_on_a_full_disk(video, tmp_path, monkeypatch):
    old = tmp_path / "old"
    old.write_bytes(b"x")

    def usage(path):
        return shutil._ntuple_diskusage(1 << 30, 0, 0 if old.exists() else 1 << 30)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with fetched(video, tmp_path, 1e9) as path:
        assert path.read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir()] == [video.id]


@pytest.mark.parametrize(("failures", "reason"), [(4, ""), (5, "network")])
def test_downloads_are_tried_five_times(video, tmp_path, monkeypatch, failures, reason):
    opened, count = fetching.Location.open, [0]

    def flaky(location):
        count[0] += 1
        if count[0] <= failures:
            raise OSError("connection reset")
        return opened(location)

    monkeypatch.setattr(fetching.Location, "open", flaky)
    if not reason:
        with fetched(video, tmp_path, 0) as path:
            assert path.read_bytes() == b"content"
        return
    with pytest.raises(UnitError, match="connection reset") as caught, fetched(video, tmp_path, 0):
        pass
    assert caught.value.reason == reason


def test_a_video_that_vanished_is_missing(video, tmp_path):
    fsspec.filesystem("memory").rm("/fetched/a.mp4")
    with pytest.raises(UnitError) as caught, fetched(video, tmp_path, 0):
        pass
    assert caught.value.reason == "missing"
