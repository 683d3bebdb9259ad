"""The page of a comparison: one HTML file that needs no server, no network and no codec.

It is made row by row: pictures and rows go to files at once, so that memory does not grow with the number of prompts.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from videocrafter.evaluation.comparison.films import encode_picture, make_film, read_shown, tile_layout
from videocrafter.evaluation.comparison.matching import Row
from videocrafter.evaluation.comparison.settings import setting_table
from videocrafter.media.errors import MediaError
from videocrafter.media.framing import Framing, frame_image
from videocrafter.media.image_file import read_image

PAGE_FILE, FILES_FOLDER = "index.html", "index_files"
PARTS_FOLDER = Path(__file__).parent / "page"
"""Style, script and markup of the page."""
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
            file.write(data_block(shown) + "\n")
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
    names = [f"{name}-{index}.webp" for index in range(len(film.pictures))]
    for one, content in zip(names, film.pictures, strict=True):
        pictures.add(one, content)
    return cell | film_data(names, film.num_frames, (film.height, film.width), film.fps, film.shape)


def film_data(
    pictures: Sequence[str], num_frames: int, tile: tuple[int, int], fps: float, shape: tuple[int, int]
) -> dict[str, Any]:
    """Return what the page's script needs to play a video from its pictures.

    Args:
        pictures: names in the `files` of the page's data.
        num_frames: frames to show.
        tile: height and width of a frame in the pictures.
        fps: frames per second.
        shape: height and width of the video itself.
    """
    tiles, across = tile_layout(num_frames, *tile)
    height, width = tile
    return {
        "pictures": list(pictures),
        "tiles": tiles,
        "across": across,
        "frames": num_frames,
        "height": height,
        "width": width,
        "fps": fps,
        "shape": f"{shape[1]}×{shape[0]}",
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
    yield data_block(head).removesuffix("}") + ', "rows": ['
    with rows.open(encoding="ascii") as lines:
        for number, line in enumerate(lines):
            yield (", " if number else "") + line.rstrip("\n")
    yield '], "files": {'
    for number, name in enumerate(pictures.names):
        yield (", " if number else "") + f"{data_block(name)}: {data_block(pictures.address(name, inside=inside))}"
    yield "}}"


def data_block(data: Any) -> str:
    """Return JSON for a script element of a page. No text of others can end that element."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page_part(name: str) -> str:
    """Return a file of the page: `controls.html` and `compare.css` also serve pages that load their script."""
    return (PARTS_FOLDER / name).read_text(encoding="utf-8")


def _html(title: str, data: Iterator[str]) -> Iterator[str]:
    """Yield the page in parts: style, script and data put into the template."""
    parts = {
        "TITLE": escape(title),
        "PAGE_STYLE": page_part("page.css"),
        "STYLE": page_part("compare.css"),
        "CONTROLS": page_part("controls.html"),
        "SCRIPT": page_part("compare.js"),
    }
    before, *others = page_part("compare.html").split("{{")
    yield before
    for one in others:
        name, _, after = one.partition("}}")
        yield from data if name == "DATA" else (parts[name],)
        yield after
