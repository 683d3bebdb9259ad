"""Reading of manifest rows: CSV, TSV, JSON Lines, JSON or Parquet, local or remote, in one or more files."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from videocrafter.data.errors import BadSampleError, SourceError
from videocrafter.data.locations import list_matches, open_url

Row = Mapping[str, Any]

# JSON lines may omit fields, so a column counts as missing only if it is missing from the first rows.
_ROWS_INSPECTED = 100


def read_rows(pattern: str, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Yield the rows of all files that match `pattern`, in order, as dictionaries.

    Args:
        pattern: path or URL, with optional braces and *.
        columns: columns to read; Parquet then reads only these.

    Raises:
        SourceError: no file matches, its format is unknown, or it cannot be read.
    """
    for url in list_matches(pattern):
        yield from _rows_of(url, columns)


def column_names(pattern: str) -> list[str]:
    """Return the columns of the first file.

    Raises:
        SourceError: as for `read_rows`, or the file has no rows.
    """
    url = list_matches(pattern)[0]
    names: dict[str, None] = {}
    for number, row in enumerate(_rows_of(url, None)):
        names.update(dict.fromkeys(row))
        if number == _ROWS_INSPECTED:
            break
    if not names:
        raise SourceError(f"{url} has no rows, expected one row per clip")
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


def _rows_of(url: str, columns: Sequence[str] | None) -> Iterator[Row]:
    name = url.lower().removesuffix(".gz")
    suffix = name[name.rfind(".") :]
    if suffix not in _READERS:
        raise SourceError(f"{url} is not a supported manifest, expected one of {', '.join(_READERS)}")
    try:
        with open_url(url) as file, _unzipped(file, url) as plain:
            yield from _READERS[suffix](plain, url, columns)
    except BadSampleError as error:
        raise SourceError(f"{error}; check the path of the manifest") from error
    except (OSError, EOFError, UnicodeError) as error:
        raise SourceError(f"{url} cannot be read ({error}); it may be damaged or truncated") from error


@contextmanager
def _unzipped(file: BinaryIO, url: str) -> Iterator[Any]:
    if not url.lower().endswith(".gz"):
        yield file
        return
    with gzip.open(file) as plain:
        yield plain


def _csv_rows(file: BinaryIO, url: str, columns: Sequence[str] | None, delimiter: str = ",") -> Iterator[Row]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
    reader = csv.DictReader(text, delimiter=delimiter, restval="")
    try:
        for row in reader:
            row.pop(None, None)  # cells beyond the last column
            yield row
    except csv.Error as error:
        raise SourceError(f"{url}, after line {reader.line_num}: {error}; fix the line or its quotes") from error
    finally:
        text.detach()


def _tsv_rows(file: BinaryIO, url: str, columns: Sequence[str] | None) -> Iterator[Row]:
    return _csv_rows(file, url, columns, "\t")


def _json_lines(file: BinaryIO, url: str, columns: Sequence[str] | None) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield _json_object(line, f"{url}, line {number}")


def _json_list(file: BinaryIO, url: str, columns: Sequence[str] | None) -> Iterator[Row]:
    rows = _json_value(file.read(), url)
    if not isinstance(rows, list):
        raise SourceError(f"{url} is not a JSON list, expected a list of objects, one per clip, or JSON Lines")
    for number, row in enumerate(rows):
        yield _checked_object(row, f"{url}, entry {number}")


def _json_object(text: bytes, where: str) -> Row:
    return _checked_object(_json_value(text, where), where)


def _json_value(text: bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where} is not valid JSON ({error}); fix or remove it") from error


def _checked_object(value: object, where: str) -> Row:
    if not isinstance(value, dict):
        raise SourceError(f'{where} is not a JSON object, expected one such as {{"video": …, "caption": …}}')
    return value


def _parquet_rows(file: BinaryIO, url: str, columns: Sequence[str] | None) -> Iterator[Row]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise SourceError(f"reading {url} needs pyarrow; run pip install 'videocrafter[train]'") from error
    try:
        table = parquet.ParquetFile(file)
        known = None if columns is None else [name for name in columns if name in table.schema_arrow.names]
        for batch in table.iter_batches(_ROWS_INSPECTED if known is None else 4096, columns=known):
            yield from batch.to_pylist()
    except pa.ArrowException as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(
            f"{url} is not readable as Parquet ({first_line}); it may be damaged or truncated"
        ) from error


_READERS: Mapping[str, Callable[[BinaryIO, str, Sequence[str] | None], Iterable[Row]]] = {
    ".csv": _csv_rows,
    ".tsv": _tsv_rows,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_list,
    ".parquet": _parquet_rows,
}
