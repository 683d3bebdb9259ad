"""Reading of manifest rows: CSV, TSV, JSON Lines, JSON or Parquet, local or remote, in one or more files."""

from __future__ import annotations

import difflib
import gzip
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol

from videocrafter.data.errors import BadSampleError, SourceError
from videocrafter.data.locations import list_matches, open_url
from videocrafter.data.tables import TableError, TableRow, csv_rows, json_lines, json_list
from videocrafter.data.text_files import TextError

Row = Mapping[str, Any]

# JSON lines may omit fields, so a column counts as missing only if it is missing from the first rows.
_ROWS_INSPECTED = 100
_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")


def read_rows(pattern: str, columns: Sequence[str]) -> Iterator[TableRow]:
    """Yield the rows of all files that match `pattern`, in order.

    Args:
        pattern: path or URL, with optional braces and *.
        columns: columns to check; Parquet then reads only these. Rows of JSON may lack some of them.

    Raises:
        SourceError: no file matches, its format is unknown, it cannot be read, or it lacks a column.
    """
    for url in list_matches(pattern):
        is_checked = _suffix(url) in _JSON_SUFFIXES
        for row in _rows_of(url, columns):
            if not is_checked and not row.problem:
                _check_columns(url, columns, row.cells)
                is_checked = True
            yield row


def column_names(pattern: str) -> list[str]:
    """Return the columns of the first file.

    Raises:
        SourceError: as for `read_rows`, or the file has no rows, or none of the first rows is valid.
    """
    url = list_matches(pattern)[0]
    names: dict[str, None] = {}
    problem = ""
    for number, row in enumerate(_rows_of(url, None)):
        names.update(dict.fromkeys(row.cells))
        problem = problem or row.problem
        if number == _ROWS_INSPECTED:
            break
    if not names:
        raise SourceError(problem or f"{url} has no rows, expected one row per clip")
    return list(names)


def find_column(pattern: str, columns: Sequence[str], role: str, wanted: str | None, known: Sequence[str]) -> str:
    """Return the column for a role: the `wanted` one, else the first `known` name that exists.

    Raises:
        SourceError: the column does not exist; the message suggests the closest one.
    """
    candidates = [wanted] if wanted is not None else list(known)
    for name in candidates:
        if name in columns:
            return name
    lower = {name.lower(): name for name in reversed(columns)}
    near = [lower[match] for name in candidates for match in difflib.get_close_matches(name.lower(), lower, 1, 0.6)]
    missing = " or ".join(repr(name) for name in candidates)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise SourceError(
        f"{pattern} has no column {missing} for the {role}; {hint}its columns are {', '.join(map(repr, columns))}; "
        "name the right one"
    )


def _check_columns(url: str, columns: Sequence[str], given: Collection[str]) -> None:
    for column in columns:
        if column not in given:
            raise SourceError(
                f"{url} has no column {column!r}, but another file of the same source has it; its columns are "
                f"{', '.join(map(repr, given))}"
            )


def _suffix(url: str) -> str:
    name = url.lower().removesuffix(".gz")
    return name[name.rfind(".") :]


def _rows_of(url: str, columns: Sequence[str] | None) -> Iterator[TableRow]:
    suffix = _suffix(url)
    if suffix not in _READERS:
        raise SourceError(f"{url} is not a supported manifest, expected one of {', '.join(_READERS)}")
    try:
        with open_url(url) as file, _unzipped(file, url) as plain:
            yield from _READERS[suffix](plain, url, columns)
    except BadSampleError as error:
        raise SourceError(f"{error}; check the path of the manifest") from error
    except (TableError, TextError) as error:
        raise SourceError(str(error)) from error
    except (OSError, EOFError, UnicodeError, zlib.error) as error:
        raise SourceError(f"{url} cannot be read ({error}); it may be damaged or truncated") from error


@contextmanager
def _unzipped(file: BinaryIO, url: str) -> Iterator[Any]:
    if not url.lower().endswith(".gz"):
        yield file
        return
    with gzip.open(file) as plain:
        yield plain


def _parquet_rows(file: BinaryIO, url: str, columns: Sequence[str] | None) -> Iterator[TableRow]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise SourceError(f"reading {url} needs pyarrow; run pip install 'videocrafter[train]'") from error
    try:
        table = parquet.ParquetFile(file)
        given = table.schema_arrow.names
        repeated = [name for name, count in Counter(given).items() if count > 1]
        if repeated:
            raise SourceError(f"{url} has the column {repeated[0]!r} twice; rename or remove one of them")
        if columns is not None:
            _check_columns(url, columns, given)
        number = 0
        for batch in table.iter_batches(_ROWS_INSPECTED if columns is None else 4096, columns=columns):
            for cells in batch.to_pylist():
                yield TableRow(f"{url}, row {number}", cells)
                number += 1
    except pa.ArrowException as error:
        first_line = str(error).partition("\n")[0] or type(error).__name__
        raise SourceError(
            f"{url} is not readable as Parquet ({first_line}); it may be damaged or truncated"
        ) from error


class _Reader(Protocol):
    def __call__(self, file: BinaryIO, name: str, columns: Sequence[str] | None, /) -> Iterator[TableRow]: ...


def _delimited(delimiter: str) -> _Reader:
    return lambda file, name, columns: csv_rows(file, name, delimiter)


_READERS: Mapping[str, _Reader] = {
    ".csv": _delimited(","),
    ".tsv": _delimited("\t"),
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": json_list,
    ".parquet": _parquet_rows,
}
