"""Which picture belongs to which prompt.

A row of a prompts file names its picture itself; the name is looked up beside the prompts file, or in the folder
given with --image. A folder without such names goes to the prompts in the order of the pictures' names, with
numbers in names counted as numbers: one prompt for all of them, or as many prompts as pictures. Lines of plain
text may begin with a picture's name and a colon instead ("horse.png: a horse gallops").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from videocrafter.cli.generate.prompt_files import PromptRow

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def pair_with_pictures(
    rows: Sequence[PromptRow], image: Path | None, prompts_file: Path | None = None
) -> tuple[PromptRow, ...]:
    """Give each row the path of its picture, or none to all.

    Args:
        rows: the prompts; a row may name a picture.
        image: a picture for all rows, a folder of pictures, or None.
        prompts_file: where the rows come from; names of pictures are relative to its folder.

    Raises:
        ValueError: pictures and prompts that do not pair; names the row or the picture that is left over.
    """
    named = [row for row in rows if row.image is not None]
    if named and len(named) < len(rows):
        missing = next(row for row in rows if row.image is None)
        raise ValueError(f"{missing.where} names no picture, but {named[0].where} does; name one for every prompt")
    if named and image is not None and not image.is_dir():
        raise ValueError(
            f"{named[0].where} names a picture, and --image {image} is another; give a folder with --image, or"
            " leave it out"
        )
    if image is not None and image.is_dir():
        return _pair_with_folder(rows, image)
    if named:
        folder = prompts_file.parent if prompts_file is not None else Path()
        return tuple(replace(row, image=_existing(row, folder / str(row.image))) for row in rows)
    return tuple(replace(row, image=image) for row in rows)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, by name, "9.png" before "10.png". Raises ValueError if there is none."""
    pictures = [path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()]
    if not pictures:
        kinds = ", ".join(suffix.removeprefix(".") for suffix in PICTURE_SUFFIXES)
        raise ValueError(f"the folder {folder} holds no pictures ({kinds})")
    return sorted(pictures, key=_natural_order)


def _natural_order(path: Path) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _pair_with_folder(rows: Sequence[PromptRow], folder: Path) -> tuple[PromptRow, ...]:
    pictures = pictures_in(folder)
    if rows and rows[0].image is not None:
        return tuple(replace(row, image=_find(row, str(row.image), pictures, folder)) for row in rows)
    begins_with_name = [_split_name(row.prompt, pictures) is not None for row in rows]
    if any(begins_with_name):
        return tuple(_by_line(row, pictures, folder) for row in rows)
    if len(rows) == 1:
        return tuple(replace(rows[0], image=picture) for picture in pictures)
    if len(rows) != len(pictures):
        if len(rows) > len(pictures):
            left_over = f"{rows[len(pictures)].where} has no picture"
        else:
            left_over = f"{pictures[len(rows)]} has no prompt"
        raise ValueError(
            f"there are {len(rows)} prompts for the {len(pictures)} pictures in {folder}: {left_over}; give one"
            " prompt, one per picture, or name the pictures in the prompts file"
        )
    return tuple(replace(row, image=picture) for row, picture in zip(rows, pictures, strict=True))


def _split_name(prompt: str, pictures: Sequence[Path]) -> tuple[str, str] | None:
    """The picture's name and the rest of a line that begins with one and a colon; None for other lines."""
    name, colon, rest = prompt.partition(":")
    known = {path.name for path in pictures} | {path.stem for path in pictures}
    return (name.strip(), rest.strip()) if colon and name.strip() in known else None


def _by_line(row: PromptRow, pictures: Sequence[Path], folder: Path) -> PromptRow:
    split = _split_name(row.prompt, pictures)
    if split is None:
        raise ValueError(
            f"{row.where} begins with no name of a picture in {folder}, but other lines do; write NAME.png: PROMPT"
        )
    return replace(row, prompt=split[1], image=_find(row, split[0], pictures, folder))


def _find(row: PromptRow, name: str, pictures: Sequence[Path], folder: Path) -> Path:
    """The picture of that name; its suffix may be left out if that leaves one."""
    exact = folder / name
    if exact.is_file():
        return exact
    matches = [path for path in pictures if path.stem == name]
    if len(matches) > 1:
        raise ValueError(
            f"{row.where} names {name!r}, which {matches[0].name} and {matches[1].name} are; add the suffix"
        )
    return matches[0] if matches else _existing(row, exact)


def _existing(row: PromptRow, path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{row.where} names the picture {path}, which does not exist")
    return path
