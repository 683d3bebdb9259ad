"""The page of a comparison: one HTML file that needs no server, no network and no codec.

It is made row by row: pictures and rows go to files at once, so that memory does not grow with the number of prompts.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from videocrafter.evaluation.comparison.films import Film, encode_picture, make_film, read_shown
from videocrafter.evaluation.comparison.matching import Row
from videocrafter.evaluation.comparison.settings import setting_table
from videocrafter.media.errors import MediaError
from videocrafter.media.framing import Framing, frame_image
from videocrafter.media.image_file import read_image

PAGE_FILE, FILES_FOLDER = "index.html", "index_files"
EMBED_LIMIT = 32 * 2**20
"""Above this many bytes, pictures are files next to the page: browsers are slow with huge pages."""

Metrics = Mapping[str, Mapping[tuple[str, str, int | None], Mapping[str, float]]]

_ROWS = "rows.jsonl"


@dataclass(frozen=True, kw_only=True)
class PageFiles:
    """A page, and the folder of pictures that it needs next to it as `FILES_FOLDER`; None if all are inside it."""

    html: Path
    pictures: Path | None


def comparison_page(
    rows: Sequence[Row],
    columns: Sequence[str],
    folder: Path,
    *,
    title: str,
    metrics: Metrics | None = None,
    size: int = 512,
    max_frames: int = 128,
    embed: bool | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> PageFiles:
    """Write the page of a comparison. A video that cannot be read is a cell that says so.

    Args:
        rows: one per prompt and seed.
        columns: names of the columns, in order.
        folder: existing and empty, for the page, its pictures, and parts of them.
        title: heading.
        metrics: values of videos, by column.
        size: longest side of the shown frames, in pixels.
        max_frames: frames of a video to show, from its start.
        embed: whether pictures are inside the page; None decides by `EMBED_LIMIT`.
        on_progress: called with the numbers of finished and of all rows.
    """
    pictures = _Pictures(folder / FILES_FOLDER)
    with (folder / _ROWS).open("w", encoding="ascii") as file:
        for number, row in enumerate(rows):
            cells = [
                _cell(row, name, f"{number:04d}-{column}", metrics or {}, size, max_frames, pictures)
                for column, name in enumerate(columns)
            ]
            image = None if row.image is None else _image(row.image, number, size, pictures)
            shown = {"prompt": row.prompt, "seed": row.seed, "image": image, "cells": cells}
            file.write(_json(shown) + "\n")
            on_progress(number + 1, len(rows))
    inside = pictures.size <= EMBED_LIMIT if embed is None else embed
    entries = {name: [row.videos[name] for row in rows if name in row.videos] for name in columns}
    head = {"title": title, "columns": list(columns), "settings": setting_table(entries)}
    page = folder / PAGE_FILE
    with page.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(_html(title, _data(head, folder / _ROWS, pictures, inside=inside)))
    return PageFiles(html=page, pictures=None if inside or not pictures.names else pictures.folder)


class _Pictures:
    """Pictures in a folder, with their names in order and their size in bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []
        self.size = 0
        folder.mkdir()

    def add(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)
        self.names.append(name)
        self.size += len(content)

    def address(self, name: str, *, inside: bool) -> str:
        if not inside:
            return f"{FILES_FOLDER}/{name}"
        return f"data:image/webp;base64,{base64.b64encode((self.folder / name).read_bytes()).decode()}"


def _cell(
    row: Row, column: str, name: str, metrics: Metrics, size: int, max_frames: int, pictures: _Pictures
) -> dict[str, Any] | None:
    entry = row.videos.get(column)
    if entry is None:
        return None
    values = metrics.get(column, {}).get((entry.name, entry.prompt, entry.seed), {})
    cell: dict[str, Any] = {"name": entry.name, "seed": entry.seed, "metrics": dict(values)}
    try:
        film = make_film(*read_shown(entry.path, size, max_frames))
    except MediaError as error:
        return cell | {"error": str(error)}
    return cell | _film(film, name, pictures)


def _film(film: Film, name: str, pictures: _Pictures) -> dict[str, Any]:
    names = [f"{name}-{index}.webp" for index in range(len(film.pictures))]
    for one, content in zip(names, film.pictures, strict=True):
        pictures.add(one, content)
    return {
        "pictures": names,
        "tiles": film.tiles,
        "across": film.across,
        "frames": film.num_frames,
        "height": film.height,
        "width": film.width,
        "fps": film.fps,
        "shape": f"{film.shape[1]}×{film.shape[0]}",
    }


def _image(path: Path, number: int, size: int, pictures: _Pictures) -> str | None:
    try:
        pixels = read_image(path)
    except MediaError:
        return None
    scale = min(1.0, size / max(pixels.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    name = f"{number:04d}-image.webp"
    pictures.add(name, encode_picture(frame_image(pixels, Framing(height=height, width=width))))
    return name


def _data(head: Mapping[str, Any], rows: Path, pictures: _Pictures, *, inside: bool) -> Iterator[str]:
    """Yield the data of the page as JSON, in parts: `head`, "rows" from a file of lines, and "files"."""
    yield _json(head).removesuffix("}") + ', "rows": ['
    with rows.open(encoding="ascii") as lines:
        for number, line in enumerate(lines):
            yield (", " if number else "") + line.rstrip("\n")
    yield '], "files": {'
    for number, name in enumerate(pictures.names):
        yield (", " if number else "") + f"{_json(name)}: {_json(pictures.address(name, inside=inside))}"
    yield "}}"


def _json(value: Any) -> str:
    """Return JSON that no text of others can use to end the script element around it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _html(title: str, data: Iterator[str]) -> Iterator[str]:
    """Yield the page in parts: style, script and data put into the template."""
    folder = files("videocrafter.evaluation.comparison").joinpath("page")
    parts = {
        "TITLE": escape(title),
        "STYLE": folder.joinpath("compare.css").read_text(encoding="utf-8"),
        "SCRIPT": folder.joinpath("compare.js").read_text(encoding="utf-8"),
    }
    html = folder.joinpath("compare.html").read_text(encoding="utf-8")
    before, *others = html.split("{{")
    yield before
    for one in others:
        name, _, after = one.partition("}}")
        yield from data if name == "DATA" else (parts[name],)
        yield after
