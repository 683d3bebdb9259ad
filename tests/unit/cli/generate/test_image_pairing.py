from pathlib import Path

import pytest

from videocrafter.cli.generate.image_pairing import images_in, pair_with_images
from videocrafter.generation.request import PromptRow


def rows(*prompts, images=()):
    images = [*images, *[None] * len(prompts)]
    return [
        PromptRow(prompt=prompt, image=image and Path(image), where=f"line {number}")
        for number, (prompt, image) in enumerate(zip(prompts, images, strict=False), start=1)
    ]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("10.png", "9.jpg", "2b.WEBP", "notes.txt"):
        (folder / name).touch()
    return folder


def paired(*arguments):
    return [(row.prompt, row.image and row.image.name) for row in pair_with_images(*arguments)]


def test_without_images_there_are_none():
    assert paired(rows("a", "b"), None) == [("a", None), ("b", None)]


def test_one_image_serves_all_prompts(tmp_path):
    assert paired(rows("a", "b"), tmp_path / "x.png") == [("a", "x.png"), ("b", "x.png")]


def test_images_are_in_the_order_of_their_numbers(folder):
    assert [path.name for path in images_in(folder)] == ["2b.WEBP", "9.jpg", "10.png"]


def test_a_folder_goes_to_the_prompts_in_order_or_to_one(folder):
    assert paired(rows("a", "b", "c"), folder) == [("a", "2b.WEBP"), ("b", "9.jpg"), ("c", "10.png")]
    assert paired(rows("a"), folder) == [("a", "2b.WEBP"), ("a", "9.jpg"), ("a", "10.png")]


def test_lines_may_begin_with_the_name_of_an_image(folder):
    named = rows("10.png: a cat: asleep", "9 : a dog", "10.png:")
    assert paired(named, folder) == [("a cat: asleep", "10.png"), ("a dog", "9.jpg"), ("", "10.png")]
    # A colon after anything else is part of the prompt.
    assert paired(rows("a: b", "c", "d"), folder)[0] == ("a: b", "2b.WEBP")


def test_rows_name_images_next_to_the_file_or_in_the_folder(folder):
    file = folder / "prompts.csv"
    assert paired(rows("a", "b", images=("9.jpg", "10.png")), None, file) == [("a", "9.jpg"), ("b", "10.png")]
    assert paired(rows("a", "b", images=("9", "10.png")), folder, Path("p.csv")) == [("a", "9.jpg"), ("b", "10.png")]
    (row,) = pair_with_images(rows("a", images=(folder / "9.jpg",)), None, Path("elsewhere") / "p.csv")
    assert row.image == folder / "9.jpg"


@pytest.mark.parametrize(
    ("given", "image", "words"),
    [
        (rows("a", "b"), "folder", ["2 prompts", "3 images", "10.png has no prompt"]),
        (rows("a", "b", "c", "d"), "folder", ["line 4 has no image"]),
        (rows("a", "b", images=("9.jpg",)), "folder", ["line 2 names no image", "line 1 does"]),
        (rows("a", images=("11.png",)), "folder", ["line 1", "11.png", "does not exist"]),
        (rows("a", images=("9.jpg",)), "other.png", ["line 1", "other.png", "folder"]),
        (rows("9: a", "b"), "folder", ["line 2 does not begin with the name", "NAME.png: PROMPT"]),
    ],
)
def test_what_does_not_pair_is_named(folder, given, image, words):
    with pytest.raises(ValueError) as caught:
        pair_with_images(given, folder if image == "folder" else Path(image), folder / "p.txt")
    for word in words:
        assert word in str(caught.value)


def test_names_of_two_images_need_a_suffix(folder):
    (folder / "9.png").touch()
    with pytest.raises(ValueError, match=r"names the image '9', which could be 9\.jpg or 9\.png"):
        pair_with_images(rows("a", images=("9",)), folder)


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(ValueError, match="contains no images"):
        pair_with_images(rows("a"), tmp_path)
