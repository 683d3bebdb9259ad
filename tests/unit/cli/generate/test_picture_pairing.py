from pathlib import Path

import pytest

from videocrafter.cli.generate.picture_pairing import pair_with_pictures, pictures_in
from videocrafter.cli.generate.prompt_files import PromptRow


def rows(*prompts, images=()):
    images = [*images, *[None] * len(prompts)]
    return [
        PromptRow(prompt=prompt, image=image and Path(image), where=f"line {number}")
        for number, (prompt, image) in enumerate(zip(prompts, images, strict=False), start=1)
    ]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("10.png", "9.jpg", "2b.WEBP", "notes.txt"):
        (folder / name).touch()
    return folder


def paired(*arguments):
    return [(row.prompt, row.image and row.image.name) for row in pair_with_pictures(*arguments)]


def test_without_pictures_there_are_none():
    assert paired(rows("a", "b"), None) == [("a", None), ("b", None)]


def test_one_picture_serves_all_prompts(tmp_path):
    assert paired(rows("a", "b"), tmp_path / "x.png") == [("a", "x.png"), ("b", "x.png")]


def test_pictures_are_in_the_order_of_their_numbers(folder):
    assert [path.name for path in pictures_in(folder)] == ["2b.WEBP", "9.jpg", "10.png"]


def test_a_folder_goes_to_the_prompts_in_order_or_to_one(folder):
    assert paired(rows("a", "b", "c"), folder) == [("a", "2b.WEBP"), ("b", "9.jpg"), ("c", "10.png")]
    assert paired(rows("a"), folder) == [("a", "2b.WEBP"), ("a", "9.jpg"), ("a", "10.png")]


def test_lines_may_begin_with_the_pictures_name(folder):
    named = rows("10.png: a cat: asleep", "9 : a dog", "10.png:")
    assert paired(named, folder) == [("a cat: asleep", "10.png"), ("a dog", "9.jpg"), ("", "10.png")]
    # A colon alone means nothing.
    assert paired(rows("a: b", "c", "d"), folder)[0] == ("a: b", "2b.WEBP")


def test_rows_name_pictures_beside_the_file_or_in_the_folder(folder):
    file = folder / "prompts.csv"
    assert paired(rows("a", "b", images=("9.jpg", "10.png")), None, file) == [("a", "9.jpg"), ("b", "10.png")]
    assert paired(rows("a", "b", images=("9", "10.png")), folder, Path("p.csv")) == [("a", "9.jpg"), ("b", "10.png")]
    (row,) = pair_with_pictures(rows("a", images=(folder / "9.jpg",)), None, Path("elsewhere") / "p.csv")
    assert row.image == folder / "9.jpg"


@pytest.mark.parametrize(
    ("given", "image", "words"),
    [
        (rows("a", "b"), "folder", ["2 prompts", "3 pictures", "10.png has no prompt"]),
        (rows("a", "b", "c", "d"), "folder", ["line 4 has no picture"]),
        (rows("a", "b", images=("9.jpg",)), "folder", ["line 2 names no picture", "line 1 does"]),
        (rows("a", images=("11.png",)), "folder", ["line 1", "11.png", "does not exist"]),
        (rows("a", images=("9.jpg",)), "other.png", ["line 1", "other.png", "folder"]),
        (rows("9: a", "b"), "folder", ["line 2 begins with no name", "NAME.png: PROMPT"]),
    ],
)
def test_what_does_not_pair_is_named(folder, given, image, words):
    with pytest.raises(ValueError) as caught:
        pair_with_pictures(given, folder if image == "folder" else Path(image), folder / "p.txt")
    for word in words:
        assert word in str(caught.value)


def test_names_that_two_pictures_have_need_their_suffix(folder):
    (folder / "9.png").touch()
    with pytest.raises(ValueError, match=r"line 1 names '9', which 9\.jpg and 9\.png are"):
        pair_with_pictures(rows("a", images=("9",)), folder)


def test_a_folder_without_pictures_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no pictures"):
        pair_with_pictures(rows("a"), tmp_path)
