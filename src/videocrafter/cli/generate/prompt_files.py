"""Prompts files: one prompt per line, a table (csv, tsv), or one JSON object per line (jsonl).

The first line of a table, or the keys of a JSON object, name the columns: prompt, negative_prompt, seed, fps, image.
If a cell is empty or a key is missing, the command line applies. All videos of a run have the same size, so the
optional columns num_frames, height and width must be equal in all rows.
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
    """One prompt and the settings that belong to it alone; None means "not given".

    Attributes:
        prompt: description of the video.
        negative_prompt, seed, fps: override the options of the command line.
        image: an image as named in the file or, after pairing, its path.
        where: the place it was read from, for messages, such as "prompts.csv, line 3".
    """

    prompt: str
    negative_prompt: str | None = None
    seed: int | None = None
    fps: float | None = None
    image: Path | None = None
    where: str = "the command line"


@dataclass(frozen=True, kw_only=True)
class PromptFile:
    """Contents of a prompts file.

    Attributes:
        rows: its prompts, in order; at least one.
        sizes: num_frames, height and width, those that the file sets.
    """

    rows: tuple[PromptRow, ...]
    sizes: Mapping[str, int] = field(default_factory=dict)


def read_prompt_file(path: Path) -> PromptFile:
    """Read a prompts file. The suffix selects the format: .csv, .tsv, .jsonl, or any other for plain text.

    In plain text, blank lines and lines that begin with # are skipped. Raises ValueError or OSError naming the file
    and the line.
    """
    suffix = path.suffix.lower()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a UTF-8 text file; write one prompt per line") from error
    if suffix in _DELIMITERS:
        found = list(_table_rows(path, text, _DELIMITERS[suffix]))
    elif suffix in (".jsonl", ".ndjson"):
        found = list(_json_rows(path, text))
    elif suffix == ".json":
        raise ValueError(f"{path} is a .json file; write one object per line and name it {path.stem}.jsonl")
    else:
        found = [(f"{path}, line {number}", {"prompt": line}) for number, line in _plain_lines(text)]
    if not found:
        raise ValueError(f"{path} contains no prompts; write one per line (lines that begin with # are skipped)")
    return PromptFile(rows=tuple(_row(where, cells) for where, cells in found), sizes=_sizes(found))


def _plain_lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _table_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[str, dict[str, Any]]]:
    # The limit is global to the process, so restore it.
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
                    f"{where} has {len(cells)} cells, but the first line names {len(header)} columns; put text that"
                    " contains commas in double quotes"
                )
            yield where, {name: cell.strip() for name, cell in zip(header, cells, strict=True) if cell.strip()}
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num} is not a valid table row: {error}") from error
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
            raise ValueError(f"{where} is not valid JSON: {error}; write one object per line") from error
        if not isinstance(cells, dict):
            raise ValueError(f'{where} is not a JSON object; write, for example, {{"prompt": "a cat"}}')
        _check_columns(where, list(cells))
        yield where, {name: value for name, value in cells.items() if value is not None}


def _check_columns(where: str, names: list[str]) -> None:
    for name in names:
        if name not in _COLUMNS:
            near = difflib.get_close_matches(name.lower(), _COLUMNS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"{where}: unknown column {name!r}; {hint}allowed are {', '.join(_COLUMNS)}")
    if len(set(names)) < len(names):
        raise ValueError(f"{where}: a column is named twice; name each once")
    if "prompt" not in names and "image" not in names:
        raise ValueError(f"{where}: the column 'prompt' is missing; the first line of a table names its columns")


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
    """Return the sizes that the file sets. Raises ValueError, naming two rows, if they differ."""
    sizes: dict[str, int] = {}
    first, first_cells = found[0]
    for where, cells in found:
        for name in _SIZES:
            if (name in cells) != (name in first_cells):
                raise ValueError(f"{name} is set in only one of {where} and {first}; set it in all rows or none")
            if name not in cells:
                continue
            value = _whole(where, name, cells[name], 1, 2**20)
            if sizes.setdefault(name, value) != value:
                raise ValueError(
                    f"{where} sets {name} to {value}, but {first} to {sizes[name]}; all videos of a run have the"
                    " same size, so split the file"
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
        raise ValueError(f"{where}: {name} must be a whole number between {least} and {most}, but is {value!r}")
    return number


def _fps(where: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number <= 1000:
        raise ValueError(f"{where}: fps must be above 0 and at most 1000, but is {value!r}")
    return number
