"""Prompts files: one prompt per line, a table (csv, tsv), or one JSON object per line (jsonl).

The first line of a table, or the keys of a JSON object, name the columns: prompt, negative_prompt, seed, fps, image.
If a cell is empty or a key is missing, the command line applies. All videos of a run have the same size, so the
optional columns num_frames, height and width must be equal in all rows.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from videocrafter.data.cells import parse_number
from videocrafter.data.tables import csv_rows, json_lines
from videocrafter.data.text_files import non_character, text_lines
from videocrafter.generation.request import PromptRow
from videocrafter.media.home_folder import expand_home

_SIZES = ("num_frames", "height", "width")
_COLUMNS = ("prompt", "negative_prompt", "seed", "fps", "image", *_SIZES)
_EXACT = 2**53
"""Largest whole number up to which floating point represents every one."""
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


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

    A byte order mark selects UTF-16 or UTF-32; otherwise the file is UTF-8. In plain text, blank lines and lines that
    begin with # are skipped. Raises ValueError or OSError naming the file
    and the line.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        raise ValueError(f"{path} is a .json file; write one object per line and name it {path.stem}.jsonl")
    with path.open("rb") as file:
        if suffix in _DELIMITERS:
            found = list(_table_rows(file, path, _DELIMITERS[suffix]))
        elif suffix in (".jsonl", ".ndjson"):
            found = list(_json_rows(file, path))
        else:
            found = [(where, {"prompt": line}) for where, line in _plain_lines(file, path)]
    if not found:
        raise ValueError(f"{path} contains no prompts; write one per line (lines that begin with # are skipped)")
    return PromptFile(rows=tuple(_row(where, cells) for where, cells in found), sizes=_sizes(found))


def _plain_lines(file: BinaryIO, path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text_lines(file, str(path), newline=""), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield f"{path}, line {number}", line.strip()


def _table_rows(file: BinaryIO, path: Path, delimiter: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, cells, problem in csv_rows(file, str(path), delimiter, check_header=_check_columns):
        if problem:
            raise ValueError(problem)
        given = {name.strip(): cell.strip() for name, cell in cells.items() if cell.strip()}
        if given:
            yield where, given


def _json_rows(file: BinaryIO, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, cells, problem in json_lines(file, str(path)):
        if problem:
            raise ValueError(problem)
        _check_columns(where, list(cells))
        yield where, {name: value for name, value in cells.items() if value is not None}


def _check_columns(where: str, given: Sequence[str]) -> None:
    names = [name.strip() for name in given]
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
        image=None if image is None else expand_home(_text(where, "image", image)),
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
    if what := non_character(value):
        raise ValueError(f"{where}: {name} contains {what}; correct or remove it")
    return value


def _whole(where: str, name: str, value: Any, least: int, most: int) -> int:
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = parse_number(value)
    # A spreadsheet or pandas writes 42.0 if another cell of the column is empty.
    if isinstance(number, float) and number.is_integer() and abs(number) <= _EXACT:
        number = int(number)
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
