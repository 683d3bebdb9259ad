"""No path leaves its folder, byte ranges read like files, and patterns match existing files."""

from __future__ import annotations

import io
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.data.errors import BadSampleError, SourceError
from videocrafter.data.locations import (
    Location,
    expand_braces,
    folder_of,
    join,
    join_or_absolute,
    list_files,
    list_matches,
)

OUTWARD = [
    "../a.mp4",
    "a/../../b.mp4",
    "/etc/passwd",
    "..",
    "C:\\a.mp4",
    "\\\\host\\a.mp4",
    "..\\a.mp4",
    "~/a.mp4",
    "s3://other/a.mp4",
    "a\0.mp4",
]


@pytest.mark.parametrize("path", OUTWARD)
def test_no_path_leaves_its_folder(path: str) -> None:
    for root in ("/data", "s3://bucket/data"):
        with pytest.raises(BadSampleError) as caught:
            join(root, path)
        assert caught.value.reason == "outside_folder"


@given(st.text(max_size=20))
def test_whatever_is_joined_stays_inside(path: str) -> None:
    try:
        joined = join("/data/root", path)
    except BadSampleError:
        return
    assert joined.startswith("/data/root/")
    assert Path("/data/root") in [Path(joined).resolve(), *Path(joined).resolve().parents]


def test_names_with_dots_are_no_way_out() -> None:
    assert join("/data/", "a..b/c...mp4") == "/data/a..b/c...mp4"
    assert join("", "a.mp4") == "a.mp4"


def test_an_empty_path_is_missing() -> None:
    with pytest.raises(BadSampleError) as caught:
        join("/data", "")
    assert caught.value.reason == "missing"


def test_a_manifest_of_ones_own_may_name_places_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert join_or_absolute("/data", "/elsewhere/a.mp4") == "/elsewhere/a.mp4"
    assert join_or_absolute("/data", "s3://bucket/a.mp4") == "s3://bucket/a.mp4"
    assert join_or_absolute("/data", "b/a.mp4") == "/data/b/a.mp4"
    monkeypatch.setenv("HOME", "/home/me")
    assert join_or_absolute("/data", "~/a.mp4") == "/home/me/a.mp4"
    with pytest.raises(BadSampleError):
        join_or_absolute("/data", "../a.mp4")
    assert folder_of("/data/a.csv") == "/data"
    assert folder_of("s3://bucket/data/a.csv") == "s3://bucket/data"


@given(
    data=st.binary(min_size=1, max_size=60),
    cut=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    moves=st.lists(st.tuples(st.integers(0, 70), st.sampled_from([0, 1, 2]), st.integers(-1, 30)), max_size=8),
)
def test_a_part_of_a_file_reads_like_a_file(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: tuple[int, int], moves: list[tuple[int, int, int]]
) -> None:
    path = tmp_path_factory.mktemp("parts") / "file"
    path.write_bytes(data)
    offset = min(cut[0], len(data))
    size = min(cut[1], len(data) - offset)
    expected = io.BytesIO(data[offset : offset + size])
    with Location(url=str(path), offset=offset, size=size).open() as file:
        for where, whence, count in moves:
            assert file.seek(where, whence) == expected.seek(where, whence)
            assert file.read(count) == expected.read(count)
            assert file.tell() == expected.tell()


def test_a_part_that_is_cut_off_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x" * 100)
    with pytest.raises(BadSampleError, match=r"a\.tar#0001\.mp4 is truncated") as caught:
        Location(url=str(tmp_path / "a.tar"), offset=90, size=20, member="0001.mp4").read(100)
    assert caught.value.reason == "truncated"


def test_missing_and_oversized_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_bytes(b"x" * 100)
    for url, reason in (
        (tmp_path / "no", "missing"),
        (tmp_path, "unreadable"),
        (tmp_path / "long.txt", "unreadable"),
    ):
        with pytest.raises(BadSampleError, match=url.name) as caught:
            Location(url=str(url)).read(99)
        assert caught.value.reason == reason


def test_remote_files_are_read_through_fsspec() -> None:
    system = fsspec.filesystem("memory")
    system.pipe({"/locations/a/1.txt": b"one", "/locations/a/.hidden": b"", "/locations/b.txt": b"0123456789"})
    assert Location(url="memory://locations/a/1.txt").read(10) == b"one"
    assert Location(url="memory://locations/b.txt", offset=2, size=3).read(10) == b"234"
    assert Location(url="memory://locations/b.txt").path is None
    assert list_files("memory://locations") == ["a/1.txt", "b.txt"]
    assert list_matches("memory://locations/*.txt") == ["memory:///locations/b.txt"]
    with pytest.raises(BadSampleError) as caught:
        Location(url="memory://locations/no.txt").read(10)
    assert caught.value.reason == "missing"


def test_a_remote_that_fails_in_its_own_way_gives_an_os_error() -> None:
    fsspec.filesystem("memory").pipe({"/failing/a.bin": b"0123456789"})

    class StrangeError(Exception):
        pass

    def fail(*_: object) -> bytes:
        raise StrangeError("token expired")

    with Location(url="memory://failing/a.bin").open() as file:
        file._file = type("Broken", (), {"seek": fail, "read": fail})()  # type: ignore[attr-defined]
        with pytest.raises(OSError, match="StrangeError: token expired"):
            file.read(3)


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(SourceError, match="nonsense"):
        list_files("nonsense://bucket")
    with pytest.raises(BadSampleError, match="nonsense"):
        Location(url="nonsense://bucket/a").read(1)


def test_files_are_listed_below_a_folder_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/2.mp4", "a.mp4", ".git/x", "b/.part"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list_files(str(tmp_path)) == ["a.mp4", "b/2.mp4"]
    with pytest.raises(SourceError, match="is not a folder"):
        list_files(str(tmp_path / "no"))


def test_a_link_to_nowhere_is_listed(tmp_path: Path) -> None:
    (tmp_path / "b.mp4").symlink_to("/nowhere/at/all.mp4")
    (tmp_path / "folder").mkdir()
    (tmp_path / "c").symlink_to(tmp_path / "folder")
    assert list_files(str(tmp_path)) == ["b.mp4"]


def test_patterns_match_existing_files(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number:05d}.tar").write_bytes(b"")
    assert [Path(path).name for path in list_matches(f"{tmp_path}/*.tar")] == ["00000.tar", "00001.tar", "00002.tar"]
    assert list_matches(f"{tmp_path}/{{00001..00002}}.tar") == [f"{tmp_path}/00001.tar", f"{tmp_path}/00002.tar"]
    with pytest.raises(SourceError, match="no file matches"):
        list_matches(f"{tmp_path}/*.csv")


def test_braces_are_expanded() -> None:
    assert expand_braces("a{08..11}.tar") == ["a08.tar", "a09.tar", "a10.tar", "a11.tar"]
    assert expand_braces("{a,b}{0..1}") == ["a0", "a1", "b0", "b1"]
    assert expand_braces("plain") == ["plain"]
    assert expand_braces("open{") == ["open{"]
