"""Pair input images with prompts.

A row of a prompts file can name its image, relative to the prompts file or to the folder given with --image. If no
row names one, the images of a folder are paired in the order of their names, with numbers compared as numbers: one
prompt for all images, or one prompt per image. Lines of plain text can also begin with an image's name and a colon
("horse.png: a horse gallops").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from videocrafter.generation.request import PromptRow

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def pair_with_images(
    rows: Sequence[PromptRow], image: Path | None, prompts_file: Path | None = None
) -> tuple[PromptRow, ...]:
    """Give each row the path of its image, or none to all.

    Args:
        rows: the prompts; each may name an image.
        image: an image for all rows, a folder of images, or None.
        prompts_file: the file that the rows come from; image names are relative to its folder.

    Raises:
        ValueError: images and prompts cannot be paired; the message names the unpaired row or image.
    """
    named = [row for row in rows if row.image is not None]
    if named and len(named) < len(rows):
        missing = next(row for row in rows if row.image is None)
        raise ValueError(f"{missing.where} names no image, but {named[0].where} does; name one for every prompt")
    if named and image is not None and not image.is_dir():
        raise ValueError(
            f"--image {image} conflicts with {named[0].where}, which names an image; give a folder with --image, or"
            " leave it out"
        )
    if image is not None and image.is_dir():
        return _pair_with_folder(rows, image)
    if named:
        folder = prompts_file.parent if prompts_file is not None else Path()
        return tuple(replace(row, image=_existing(row, folder / str(row.image))) for row in rows)
    return tuple(replace(row, image=image) for row in rows)


def images_in(folder: Path) -> list[Path]:
    """List the images of a folder by name, "9.png" before "10.png". Raises ValueError if there are none."""
    images = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not images:
        kinds = ", ".join(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
        raise ValueError(f"the folder {folder} contains no images ({kinds})")
    return sorted(images, key=_natural_order)


def _natural_order(path: Path) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _pair_with_folder(rows: Sequence[PromptRow], folder: Path) -> tuple[PromptRow, ...]:
    images = images_in(folder)
    if rows and rows[0].image is not None:
        return tuple(replace(row, image=_find(row, str(row.image), images, folder)) for row in rows)
    if any(_split_name(row.prompt, images) is not None for row in rows):
        return tuple(_by_line(row, images, folder) for row in rows)
    if len(rows) == 1:
        return tuple(replace(rows[0], image=image) for image in images)
    if len(rows) != len(images):
        if len(rows) > len(images):
            unpaired = f"{rows[len(images)].where} has no image"
        else:
            unpaired = f"{images[len(rows)]} has no prompt"
        raise ValueError(
            f"there are {len(rows)} prompts for the {len(images)} images in {folder}: {unpaired}; give one prompt,"
            " one per image, or name the images in the prompts file"
        )
    return tuple(replace(row, image=image) for row, image in zip(rows, images, strict=True))


def _split_name(prompt: str, images: Sequence[Path]) -> tuple[str, str] | None:
    """Split "IMAGE: PROMPT" into both; return None if the prompt does not begin with the name of an image."""
    name, colon, rest = prompt.partition(":")
    known = {path.name for path in images} | {path.stem for path in images}
    return (name.strip(), rest.strip()) if colon and name.strip() in known else None


def _by_line(row: PromptRow, images: Sequence[Path], folder: Path) -> PromptRow:
    split = _split_name(row.prompt, images)
    if split is None:
        raise ValueError(
            f"{row.where} does not begin with the name of an image in {folder}, but other lines do; write"
            " NAME.png: PROMPT"
        )
    return replace(row, prompt=split[1], image=_find(row, split[0], images, folder))


def _find(row: PromptRow, name: str, images: Sequence[Path], folder: Path) -> Path:
    """Find the image of that name; its suffix may be omitted if only one image matches."""
    exact = folder / name
    if exact.is_file():
        return exact
    matches = [path for path in images if path.stem == name]
    if len(matches) > 1:
        raise ValueError(
            f"{row.where} names the image {name!r}, which could be {matches[0].name} or {matches[1].name}; add the"
            " suffix"
        )
    return matches[0] if matches else _existing(row, exact)


def _existing(row: PromptRow, path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{row.where} names the image {path}, which does not exist")
    return path
