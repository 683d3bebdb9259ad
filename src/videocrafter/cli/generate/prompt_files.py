"""Files of prompts: one prompt per line, a table (csv, tsv), or one JSON object per line (jsonl).

A table's first line, or a JSON object's keys, name the columns: prompt, negative_prompt, seed, fps, image. A cell
that is empty, or a key that is missing, leaves the choice to the command line. All videos of one run have one
size, so the columns num_frames, height and width, if there, hold the same in all rows.
"""

from __future__ import annotations

import csv
import difflib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SIZES = ("num_frames", "height", "width")
_COLUMNS = ("prompt", "negative_prompt", "seed", "fps", "image", *_SIZES)
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_LONGEST_CELL = 2**20


@dataclass(frozen=True, kw_only=True)
class PromptRow:
    """One prompt and what is asked for with it alone; None means "not given".

    Attributes:
        prompt: what to show.
        negative_prompt, seed, fps: as the options of the command line, over which they win.
        image: a picture, as the file names it; or, once paired, its path.
        where: the place it was read from, for messages: "prompts.csv, line 3".
    """

    prompt: str
    negative_prompt: str | None = None
    seed: int | None = None
    fps: float | None = None
    image: Path | None = None
    where: str = "the command line"


@dataclass(frozen=True, kw_only=True)
class PromptFile:
    """What a file of prompts asks for.

    Attributes:
        rows: its prompts, in order; at least one.
        sizes: num_frames, height and width, as far as the file says them.
    """

    rows: tuple[PromptRow, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)


def read_prompt_file(path: Path) -> PromptFile:
    """Read a file of prompts; the suffix says what kind it is: .csv, .tsv, .jsonl, or any other for plain text.

    Of plain text, blank lines and lines that begin with # are left out. Raises ValueError or OSError, one line
    that names the file and the line at fault.
    """
    suffix = path.suffix.lower()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file in UTF-8; a prompts file holds one prompt per line") from error
    if suffix in _DELIMITERS:
        found = list(_table_rows(path, text, _DELIMITERS[suffix]))
    elif suffix in (".jsonl", ".ndjson"):
        found = list(_json_rows(path, text))
    elif suffix == ".json":
        raise ValueError(f"{path} is JSON as a whole; write one object per line and name it {path.stem}.jsonl")
    else:
        found = [(f"{path}, line {number}", {"prompt": line}) for number, line in _plain_lines(text)]
    if not found:
        raise ValueError(f"{path} holds no prompts; write one per line (lines that begin with # are left out)")
    return PromptFile(rows=tuple(_row(where, cells) for where, cells in found), sizes=_sizes(found))


def _plain_lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _table_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[str, dict[str, Any]]]:
    # The limit is one for the whole process, so it is put back.
    limit = csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                _check_columns(where, header)
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"{where} has {len(cells)} cells, but the first line names {len(header)} columns; put text"
                    " with commas into double quotes"
                )
            yield where, {name: cell.strip() for name, cell in zip(header, cells, strict=True) if cell.strip()}
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num} cannot be read as a table: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            cells = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{where} is no JSON: {error}; write one object per line") from error
        if not isinstance(cells, dict):
            raise ValueError(f'{where} is no JSON object; write, for example, {{"prompt": "a cat"}}')
        _check_columns(where, list(cells))
        yield where, {name: value for name, value in cells.items() if value is not None}


def _check_columns(where: str, names: list[str]) -> None:
    for name in names:
        if name not in _COLUMNS:
            near = difflib.get_close_matches(name.lower(), _COLUMNS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"{where}: unknown column {name!r}; {hint}known are {', '.join(_COLUMNS)}")
    if len(set(names)) < len(names):
        raise ValueError(f"{where}: a column stands there twice; name each once")
    if "prompt" not in names and "image" not in names:
        raise ValueError(f"{where}: there is no column 'prompt'; the first line of a table names its columns")


def _row(where: str, cells: Mapping[str, Any]) -> PromptRow:
    image = cells.get("image")
    return PromptRow(
        prompt=_text(where, "prompt", cells.get("prompt", "")),
        negative_prompt=_text(where, "negative_prompt", cells["negative_prompt"])
        if "negative_prompt" in cells
        else None,
        seed=_whole(where, "seed", cells["seed"], 0, 2**63 - 1) if "seed" in cells else None,
        fps=_fps(where, cells["fps"]) if "fps" in cells else None,
        image=None if image is None else Path(_text(where, "image", image)),
        where=where,
    )


def _sizes(found: list[tuple[str, dict[str, Any]]]) -> dict[str, int]:
    """Sizes that the file asks for. Raises ValueError, naming two rows, if it asks for a mixture."""
    sizes: dict[str, int] = {}
    first, asked_first = found[0]
    for where, cells in found:
        for name in _SIZES:
            if (name in cells) != (name in asked_first):
                raise ValueError(
                    f"{where} and {first} differ: only one of them says {name}; say it in all rows or none"
                )
            if name not in cells:
                continue
            value = _whole(where, name, cells[name], 1, 2**20)
            if sizes.setdefault(name, value) != value:
                raise ValueError(
                    f"{where} asks for {name} {value}, but {first} for {sizes[name]}; all videos of one run have"
                    " one size: split the file"
                )
    return sizes


def _text(where: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where}: {name} must be text, but is {value!r}")
    return value


def _whole(where: str, name: str, value: Any, least: int, most: int) -> int:
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
        raise ValueError(f"{where}: {name} must be a whole number in {least} ... {most}, but is {value!r}")
    return number


def _fps(where: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number <= 1000:
        raise ValueError(f"{where}: fps must lie above 0 and at most 1000, but is {value!r}")
    return number
