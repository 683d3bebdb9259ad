"""Remote videos are copied, tried again, and removed afterwards; a lost connection is not damage."""

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
    with fetched(video, tmp_path / "scratch") as path:
        assert path.read_bytes() == b"content"
    assert list((tmp_path / "scratch").iterdir()) == []


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
        with fetched(video, tmp_path) as path:
            assert path.read_bytes() == b"content"
        return
    with pytest.raises(UnitError, match="connection reset") as caught, fetched(video, tmp_path):
        pass
    assert caught.value.reason == reason


def test_a_video_that_vanished_is_missing(video, tmp_path):
    fsspec.filesystem("memory").rm("/fetched/a.mp4")
    with pytest.raises(UnitError) as caught, fetched(video, tmp_path):
        pass
    assert caught.value.reason == "missing"
