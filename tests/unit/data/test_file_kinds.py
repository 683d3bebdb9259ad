"""Kinds of files follow from their names."""

from __future__ import annotations

from videocrafter.data.file_kinds import kind_of, main_kind


def test_kind_of_a_name() -> None:
    assert [kind_of(name) for name in ("a.mp4", "b.WEBM", "c.jpeg", "d.PNG", "e.txt", "mp4")] == [
        "video",
        "video",
        "image",
        "image",
        None,
        None,
    ]


def test_videos_of_phones_cameras_and_discs_are_found() -> None:
    assert {kind_of(f"a{suffix}") for suffix in (".3gp", ".MTS", ".m2ts", ".ogv", ".VOB")} == {"video"}


def test_the_kind_of_most_files_is_that_of_all() -> None:
    assert main_kind(["a.mp4", "b.mp4", "cover.jpg", "a.txt"]) == "video"
    assert main_kind(["a.mp4", "b.jpg", "c.jpg"]) == "image"
    assert main_kind(["a.mp4", "b.jpg"]) == "video"
    assert main_kind(["a.txt"]) is None
