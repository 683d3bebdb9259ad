"""Strict reading of tables: CSV, TSV, JSON Lines, or a JSON list of objects. Problems name the file and the line.

A row that cannot be trusted, such as one with more cells than the header, is a row with a problem; the caller decides
what it costs. A table whose rows cannot be told apart is an error.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from videocrafter.data.text_files import decode_text, text_lines

# Limits what a quote that is never closed swallows. The csv module allows 131072 characters per cell.
_LONGEST_ROW = 1 << 20
_DELIMITER_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}


class TableError(ValueError):
    """A table cannot be read. The one-line message names the file, the line and the remedy."""


class TableRow(NamedTuple):
    """One row of a table.

    Attributes:
        where: the file and the line, such as "clips.csv, line 3".
        cells: values by column; blank in a row with a problem.
        problem: why the row must not be used, in one line that contains `where`; empty for a valid row.
    """

    where: str
    cells: Mapping[str, Any]
    problem: str = ""


def csv_rows(
    file: BinaryIO,
    name: str,
    delimiter: str = ",",
    check_header: Callable[[str, Sequence[str]], None] | None = None,
) -> Iterator[TableRow]:
    """Yield the rows of a table whose first line names the columns.

    Blank lines are skipped. Columns without a name at the end of the header, as spreadsheets write them, must be
    empty in all rows.

    Args:
        name: name of the file in messages.
        check_header: called with the place and the columns of the header; may raise an error of its own.

    Raises:
        TableError: the header is wrong, or a quote is not closed.
        TextError: the file is not valid text.
    """
    lines = _CsvLines(file, name)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    width = 0
    while True:
        where = lines.begin_row()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problem = lines.explain(error)
            if header is None or not lines.is_at_first:
                raise TableError(problem) from error
            yield TableRow(where, dict.fromkeys(header, ""), problem)
            continue
        if cells is None:
            return
        if not cells or (len(cells) == 1 and not cells[0].strip()):
            continue
        if header is None:
            width, header = len(cells), _checked_header(cells, where, delimiter)
            if check_header is not None:
                check_header(where, header)
            continue
        if len(header) <= len(cells) <= width and not any(cells[len(header) :]):
            yield TableRow(where, dict(zip(header, cells, strict=False)))
        else:
            yield TableRow(where, dict.fromkeys(header, ""), _wrong_width(where, cells, header, delimiter))


class _CsvLines(Iterator[str]):
    """The lines of a file for the csv module, with the place of the current row."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._lines, self._name = text_lines(file, name, newline=""), name
        self._number = self._first = self._length = 0

    def begin_row(self) -> str:
        """Begin a row with the next line, and return its place."""
        self._first, self._length = self._number + 1, 0
        return self._where

    @property
    def _where(self) -> str:
        return f"{self._name}, line {self._first}"

    @property
    def is_at_first(self) -> bool:
        """Whether only one line of the row has been read."""
        return self._number == self._first

    def explain(self, error: csv.Error) -> str:
        """Describe an error of the csv module in the current row."""
        if "unexpected end" in str(error):
            what = "a cell begins with a double quote that is never closed"
        elif "expected after" in str(error):
            what = "text follows the closing double quote of a cell"
        elif "field limit" in str(error):
            what = (
                f"a cell has more than {csv.field_size_limit()} characters; if this is not intended, a quote is open"
            )
        else:
            what = str(error)
        end = "" if self.is_at_first else f" to {self._number}"
        return f'{self._where}{end}: {what}; close every quoted cell, and write "" for a quote inside it'

    def __next__(self) -> str:
        line = next(self._lines)
        self._number += 1
        self._length += len(line)
        if self._length > _LONGEST_ROW:
            raise TableError(
                f"{self._where}: the row has more than {_LONGEST_ROW} characters; if this is not intended, close its "
                'double quote, or write "" for a quote inside a quoted cell'
            )
        return line


def _checked_header(cells: list[str], where: str, delimiter: str) -> list[str]:
    expected = f"expected columns separated by {_DELIMITER_NAMES[delimiter]}"
    if cells[0].lower().startswith("sep="):
        raise TableError(f"{where} is {cells[0]!r}, {expected}; remove the line and use that separator")
    if len(cells) == 1:
        for other, other_name in _DELIMITER_NAMES.items():
            if other in cells[0]:
                raise TableError(
                    f"{where} is separated by {other_name}, {expected}; save the table again with that separator"
                )
    header = list(cells)
    while header and not header[-1].strip():
        header.pop()
    repeated = [column for column, count in Counter(header).items() if count > 1 and column.strip()]
    if repeated:
        raise TableError(f"{where} names the column {repeated[0]!r} twice; rename or remove one of them")
    if not header:
        raise TableError(f"{where} names no column, {expected}")
    return header


def _wrong_width(where: str, cells: list[str], header: list[str], delimiter: str) -> str:
    if len(cells) < len(header):
        advice = "add the missing ones, empty if need be"
    elif any(cell.startswith(' "') for cell in cells):
        advice = f"put text with {_DELIMITER_NAMES[delimiter]} in double quotes, without a space before the quotes"
    else:
        advice = f"put text with {_DELIMITER_NAMES[delimiter]} in double quotes"
    return f"{where} has {len(cells)} cells, but the first line names {len(header)} columns; {advice}"


def json_lines(file: BinaryIO, name: str, checked: Collection[str] | None = None) -> Iterator[TableRow]:
    r"""Yield the rows of a file with one JSON object per line. Only \n and \r\n end a line; blank lines are skipped.

    Args:
        checked: columns whose numbers must be finite; None checks all.

    Raises:
        TextError: the file is not valid text.
    """
    for number, line in enumerate(text_lines(file, name, newline="\n"), start=1):
        if not line.strip(" \t\r\n"):
            continue
        where = f"{name}, line {number}"
        try:
            value = parse_json(line.rstrip("\r\n"), name, number)
        except TableError as error:
            yield TableRow(where, {}, str(error))
        else:
            yield _object_row(value, where, checked)


def json_list(file: BinaryIO, name: str, checked: Collection[str] | None = None) -> Iterator[TableRow]:
    """Yield the rows of a file that is a JSON list of objects; as `json_lines`.

    Raises:
        TableError: the file is not valid JSON, or not a list.
        TextError: the file is not valid text.
    """
    rows = parse_json(decode_text(file.read(), name), name)
    if not isinstance(rows, list):
        raise TableError(f"{name} is not a JSON list, expected a list of objects, one per clip, or JSON Lines")
    for number, row in enumerate(rows):
        yield _object_row(row, f"{name}, entry {number}", checked)


def parse_json(text: str, name: str, first_line: int = 1) -> Any:
    """Return the value of JSON text whose first line is line `first_line` of the file `name`.

    Raises:
        TableError: the text is not valid JSON, or nested too deeply.
    """
    line = first_line
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        line, what = first_line + error.lineno - 1, f"{error.msg} at column {error.colno}"
    except RecursionError:
        what = "nested too deeply"
    except ValueError as error:
        what = str(error)
    raise TableError(f"{name}, line {line} is not valid JSON ({what}); fix or remove it")


class RepeatedKeyObject(dict[str, Any]):
    """A JSON object in which the keys `repeated` occur more than once."""

    repeated: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    ambiguous = RepeatedKeyObject(found)
    ambiguous.repeated = tuple(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
    return ambiguous


def _object_row(value: object, where: str, checked: Collection[str] | None) -> TableRow:
    if not isinstance(value, dict):
        return TableRow(where, {}, f'{where} is not a JSON object, expected one such as {{"caption": "a cat"}}')
    if isinstance(value, RepeatedKeyObject):
        return TableRow(where, value, f"{where} has the key {value.repeated[0]!r} twice; remove one of them")
    for column, cell in value.items():
        if (checked is None or column in checked) and (problem := _cell_problem(cell)):
            return TableRow(where, value, f"{where}: {column} {problem}")
    return TableRow(where, value)


def _cell_problem(cell: object) -> str:
    """Return the problem of a JSON value or of one inside it, or an empty string."""
    pending = [cell]
    while pending:
        value = pending.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return f"is {value}, expected a finite number; write null if it is unknown"
        if isinstance(value, RepeatedKeyObject):
            return f"has the key {value.repeated[0]!r} twice in one object; remove one of them"
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            pending += value.values()
    return ""
