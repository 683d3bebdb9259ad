"""A list of prompts from a file: one per line, or a table with the columns prompt, seed and image.

EvalCrafter's `metadata.json`, an object of prompts and attributes by number, is read, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videocrafter.data.cells import is_blank
from videocrafter.data.rows import read_rows
from videocrafter.data.tables import parse_json
from videocrafter.data.text_files import decode_text, non_character, text_lines

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
PROMPT_COLUMNS = ("prompt", "caption", "text", "prompt_en")
_ATTRIBUTE_NAMES = {"amp": "amplitude"}  # EvalCrafter's names, and ours


@dataclass(frozen=True, kw_only=True)
class PromptItem:
    """One prompt of a list.

    Attributes:
        prompt: description of the video.
        seed: seed of the video; None if the list states none.
        image: input image for image to video, or None.
        attributes: other columns of the table, such as the aspect that the prompt tests.
    """

    prompt: str
    seed: int | None = None
    image: Path | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


def read_prompt_list(path: Path) -> tuple[PromptItem, ...]:
    """Read a list of prompts. The suffix selects the format: a table, or plain text with one prompt per line.

    Blank lines are skipped, so the number of a prompt is its position among the others.

    Raises:
        ValueError: the file is not valid text, a row has no prompt or a seed that is not a whole number, or there are
            no prompts. The message names the file and the line.
        OSError: the file cannot be read.
    """
    if path.suffix.lower() == ".json" and (numbered := _numbered_items(path)) is not None:
        found = numbered
    elif path.suffix.lower() in TABLE_SUFFIXES:
        found = tuple(_table_items(path))
    else:
        with path.open("rb") as file:
            lines = [line.strip() for line in text_lines(file, str(path), newline="")]
        found = tuple(PromptItem(prompt=checked_text(line, str(path))) for line in lines if line)
    if not found:
        raise ValueError(f"{path} contains no prompts; write one per line")
    return found


def prompts_sha256(prompts: tuple[str, ...]) -> str:
    """Return the SHA-256 of prompts in order, one per line; independent of the file's format and line endings."""
    return hashlib.sha256("\n".join(prompts).encode("utf-8", "surrogatepass")).hexdigest()


def _table_items(path: Path) -> Iterator[PromptItem]:
    for row in read_rows(str(path), ()):
        if row.problem:
            raise ValueError(row.problem)
        cells = {name.strip(): cell for name, cell in row.cells.items() if not is_blank(cell)}
        if not cells:
            continue
        column = next((name for name in PROMPT_COLUMNS if name in cells), None)
        if column is None:
            raise ValueError(f"{row.where} has no prompt; expected a column named {' or '.join(PROMPT_COLUMNS)}")
        seed, image = cells.pop("seed", None), cells.pop("image", None)
        yield PromptItem(
            prompt=checked_text(cells.pop(column), row.where),
            seed=None if seed is None else checked_seed(seed, row.where),
            image=None if image is None else path.parent / checked_text(image, row.where),
            attributes=cells,
        )


def _numbered_items(path: Path) -> tuple[PromptItem, ...] | None:
    """Return the prompts of an object such as {"0000": {"prompt": …, "attributes": {…}}}; None for a list."""
    content = parse_json(decode_text(path.read_bytes(), str(path)), str(path))
    if not isinstance(content, dict):
        return None
    found = []
    for number, value in content.items():
        if not (number.isascii() and number.isdigit()) or not isinstance(value, dict) or "prompt" not in value:
            raise ValueError(
                f'{path}: {number!r} is not a prompt; expected entries such as "0000": {{"prompt": "a cat"}}'
            )
    by_number = {int(number): value for number, value in content.items()}
    if sorted(by_number) != list(range(len(content))):
        raise ValueError(
            f"{path} has {len(content)} prompts, but their numbers are not 0 to {len(content) - 1}; videos are found "
            "by these numbers, so complete the file"
        )
    for number, value in sorted(by_number.items()):
        given: Any = value.get("attributes") or {}
        if not isinstance(given, dict):
            raise ValueError(f"{path}, {number}: attributes are {given!r}; expected an object")
        attributes = {_ATTRIBUTE_NAMES.get(str(key), str(key)): one for key, one in given.items()}
        found.append(PromptItem(prompt=checked_text(value["prompt"], f"{path}, {number}"), attributes=attributes))
    return tuple(found)


def checked_text(value: Any, where: str) -> str:
    """Return stripped text. Raises ValueError naming the place for another type, or for characters of no text."""
    if not isinstance(value, str):
        raise ValueError(f"{where}: expected text, found {value!r}")
    if what := non_character(value):
        raise ValueError(f"{where}: the text contains {what}; correct or remove it")
    return value.strip()


def checked_seed(value: Any, where: str) -> int:
    """Return a seed from a number or its text. Raises ValueError naming the place for anything else."""
    try:
        seed = int(value) if isinstance(value, str) else value
    except ValueError:
        seed = None
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise ValueError(f"{where}: seed must be a whole number between 0 and 2^63 - 1, but is {value!r}")
    return seed
